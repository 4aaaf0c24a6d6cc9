"""BlockSizeFigure: normalized latency over the block size at a fixed rate (Fig. 18b, 19b)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.show.charts import Axis, Chart, LinePanel, lines_of
from pagedbench.simulation.block_sizes import STATED
from pagedbench.tools.paper.curve import mean_latency
from pagedbench.tools.paper.figure import Outcome, Piece, setup_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pagedbench.tools.paper.claim import Claim
    from pagedbench.tools.paper.experiment import Experiment
    from pagedbench.tools.paper.figure import Options, Row

    Latencies = Mapping[str, Mapping[int, float]]
    """Latencies in s/token, by line and block size."""

BLOCK_SIZE = Axis("Block size (tokens)", is_log=True)


@dataclass(frozen=True, slots=True)
class BlockSizeFigure:
    """The figure. `lines`: label -> set-up; `judge`: makes the claims."""

    name: str
    title: str
    lines: Mapping[str, Experiment]
    sizes: tuple[int, ...]
    judge: Callable[[Latencies], list[Claim]]

    @property
    def traces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(experiment.trace for experiment in self.lines.values()))

    def pieces(self, options: Options) -> Sequence[Piece]:
        return [
            options.piece(f"{label} {size}", mean_latency, replace(experiment, block_size=size), "paged")
            for label, experiment in self.lines.items()
            for size in self.sizes
        ]

    def outcome(self, options: Options, results: Mapping[str, float]) -> Outcome:
        latencies = {
            label: {size: results[f"{label} {size}"] for size in self.sizes} for label in self.lines
        }
        rows: list[Row] = [
            {"line": label, "block_size": size, "normalized_latency_mean_s": latency}
            for label, by_size in latencies.items()
            for size, latency in by_size.items()
        ]
        lines = lines_of(rows, "block_size", "normalized_latency_mean_s", "line")
        panel = LinePanel("", BLOCK_SIZE, Axis("Normalized latency (s/token)", is_log=True), lines)
        multiples = ", ".join(f"{STATED.at(size):.3g} at {size}" for size in self.sizes)
        facts = [
            *setup_facts(next(iter(self.lines.values())), options),
            f"Attention over the block size, as a multiple of contiguous: {multiples}.",
        ]
        return Outcome({"": rows}, self.judge(latencies), Chart((panel,)), facts)
