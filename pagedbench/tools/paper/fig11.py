"""Fig. 11: lengths of prompts and replies in ShareGPT and Alpaca (paper, section 6.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.show.charts import Axis, Chart, Line, LinePanel
from pagedbench.tools.paper.arrivals import MAX_TOTAL_LEN
from pagedbench.tools.paper.claim import Claim, Near, Tolerance
from pagedbench.tools.paper.figure import Outcome, Piece
from pagedbench.workload.dataset import PAPER_MEANS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagedbench.tools.paper.figure import Options, Row
    from pagedbench.tools.paper.lengths import Lengths

NUM_BINS = 40
WIDEST = {"sharegpt": 2000, "alpaca": 400}
"""The right end of the chart, in tokens."""

KINDS = ("prompt", "output")


def histogram(lengths: Lengths, trace: str) -> dict[str, tuple[float, list[float]]]:
    """Kind of length -> its mean, and the share of rows in each bin, without rows that are too long."""
    rows = [row for row in lengths.rows(trace) if row.prompt_len + row.output_len < MAX_TOTAL_LEN]
    found = {}
    for kind in KINDS:
        values = [getattr(row, f"{kind}_len") for row in rows]
        counts = [0] * NUM_BINS
        for value in values:
            counts[min(int(value / _bin_width(trace)), NUM_BINS - 1)] += 1
        found[kind] = sum(values) / len(values), [count / len(values) for count in counts]
    return found


def _bin_width(trace: str) -> float:
    return WIDEST[trace] / NUM_BINS


@dataclass(frozen=True, slots=True)
class LengthFigure:
    """The figure."""

    name: str = "fig11"
    title: str = "Fig. 11: lengths of prompts and replies, tokens"
    traces: tuple[str, ...] = ("sharegpt", "alpaca")

    def pieces(self, options: Options) -> Sequence[Piece]:
        return [Piece(trace, histogram, (options.lengths, trace)) for trace in self.traces]

    def outcome(
        self, options: Options, results: Mapping[str, Mapping[str, tuple[float, list[float]]]]
    ) -> Outcome:
        rows: list[Row] = [
            {"trace": trace, "kind": kind, "from": index * width, "to": (index + 1) * width, "share": share}
            for trace, found in results.items()
            for width in [_bin_width(trace)]
            for kind in KINDS
            for index, share in enumerate(found[kind][1])
        ]
        tolerance = Tolerance(0.01, is_relative=True)
        claims = [
            Claim(self.name, trace, f"mean {kind}", "tokens",
                  Near(getattr(PAPER_MEANS[trace], kind), tolerance), results[trace][kind][0])
            for trace in self.traces
            for kind in KINDS
        ]  # fmt: skip
        facts = [f"{trace}: {options.lengths.source(trace)}" for trace in self.traces]
        facts.append(
            f"Rows of {MAX_TOTAL_LEN} tokens and more are left out; the last bin holds all longer ones."
        )
        panels = []
        for trace, found in results.items():
            xs = tuple((index + 0.5) * _bin_width(trace) for index in range(NUM_BINS))
            lines = tuple(
                Line(f"{trace} {kind} (mean {found[kind][0]:.1f})", xs, tuple(found[kind][1]))
                for kind in KINDS
            )
            panels.append(LinePanel(trace, Axis("Tokens"), Axis("Share of requests"), lines))
        return Outcome({"": rows}, claims, Chart(tuple(panels)), facts)


FIGURE = LengthFigure()
