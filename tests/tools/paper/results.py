"""Runs a figure in this process, as small as a test wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.tools.paper.figure import Options
from pagedbench.tools.paper.lengths import Lengths

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.tools.paper.figure import Figure, Outcome

SHAREGPT_LENGTHS = "sharegpt/sharegpt_opt_lengths.csv.gz"
ALPACA_LENGTHS = "alpaca/alpaca_lengths_opt.csv.gz"
CHAT_LENGTHS = "sharegpt/sharegpt_8k_filtered_stats_llama2_tokenizer.csv.gz"


def papers_lengths(test_data: Path) -> Lengths:
    """The paper's own."""
    return Lengths(
        (
            ("sharegpt", str(test_data / SHAREGPT_LENGTHS)),
            ("alpaca", str(test_data / ALPACA_LENGTHS)),
            ("sharegpt-8k", str(test_data / CHAT_LENGTHS)),
        )
    )


def outcome_of(figure: Figure, options: Options | None = None) -> Outcome:
    """Every piece, one after the other."""
    options = options or Options(num_seeds=1)
    return figure.outcome(options, {piece.name: piece.compute() for piece in figure.pieces(options)})
