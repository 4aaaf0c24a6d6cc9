"""BlockSizeFigure: normalized latency over the block size at a fixed rate (Fig. 18b, 19b)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.show.charts import Chart, Line, LinePanel
from pagedbench.simulation.block_sizes import STATED
from pagedbench.tools.paper.figure import Outcome, Piece
from pagedbench.tools.paper.point import mean_latency
from pagedbench.tools.paper.setup_facts import setup_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pagedbench.tools.paper.claim import Claim
    from pagedbench.tools.paper.experiment import Experiment
    from pagedbench.tools.paper.figure import Options, Row

    Latencies = Mapping[str, Mapping[int, float]]
    """By line and block size, in s/token."""


@dataclass(frozen=True, slots=True)
class Swept:
    """One line."""

    label: str
    experiment: Experiment


@dataclass(frozen=True, slots=True)
class BlockSizeFigure:
    """The figure. `judge`: the claims."""

    name: str
    title: str
    lines: tuple[Swept, ...]
    sizes: tuple[int, ...]
    judge: Callable[[Latencies], list[Claim]]

    @property
    def traces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(line.experiment.trace for line in self.lines))

    def pieces(self, options: Options) -> Sequence[Piece]:
        limit = options.max_num_seqs
        return [
            Piece(
                f"{line.label} {size}",
                mean_latency,
                (
                    replace(line.experiment, block_size=size, max_num_seqs=limit),
                    "paged",
                    options.lengths,
                    options.seed,
                ),
            )
            for line in self.lines
            for size in self.sizes
        ]

    def outcome(self, options: Options, results: Mapping[str, float]) -> Outcome:
        latencies = {
            line.label: {size: results[f"{line.label} {size}"] for size in self.sizes}
            for line in self.lines
        }
        rows: list[Row] = [
            {
                "line": line.label,
                "block_size": size,
                "normalized_latency_mean_s": latencies[line.label][size],
            }
            for line in self.lines
            for size in self.sizes
        ]
        drawn = tuple(
            Line(label, tuple(map(float, by_size)), tuple(by_size.values()))
            for label, by_size in latencies.items()
        )
        panel = LinePanel(
            "", "Block size (tokens)", "Normalized latency (s/token)", drawn, x_log=True, y_log=True
        )
        multiples = ", ".join(f"{STATED.at(size):.3g} at {size}" for size in self.sizes)
        facts = [
            *setup_facts(self.lines[0].experiment, "paged", options),
            f"Attention over the block size, as a multiple of contiguous: {multiples}.",
        ]
        return Outcome({"": rows}, self.judge(latencies), Chart((panel,)), facts)
