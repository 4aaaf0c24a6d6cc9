"""Hit rates of prefix caches on published traces, compared with those of another program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pagedbench.memory.evictions import EVICTIONS
from pagedbench.prompt import Blocks, Prompt
from pagedbench.show.charts import Axis, Chart, Line, LinePanel
from pagedbench.simulation.cache_alone import lru_curve, simulate_cache, stored_blocks
from pagedbench.tools.paper.claim import Claim, Near, Tolerance
from pagedbench.tools.paper.figure import Outcome, Piece
from pagedbench.tools.paper.lengths import WITH_BLOCKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagedbench.simulation.cache_alone import PromptBlocks
    from pagedbench.tools.paper.figure import Options, Row
    from pagedbench.tools.paper.lengths import Lengths

CAPACITIES = (409, 1_638, 6_553, 26_214)
PUBLISHED = {
    "conversation": {
        "fifo": (4.3, 5.1, 14.3, 29.0), "lru": (4.5, 5.2, 15.3, 33.0), "belady": (12.6, 24.5, 38.6, 39.8),
    },
    "synthetic": {
        "fifo": (4.6, 18.8, 45.6, 76.7), "lru": (5.3, 19.6, 48.8, 82.6), "belady": (23.7, 45.6, 73.9, 86.3),
    },
}  # fmt: skip
"""Hits in percent of the prompt tokens of the second half of the requests, by kvcache-simulator 0.1.3."""

CURVE_POINTS = tuple(round(2 ** (power / 2)) for power in range(10, 37))
"""Capacities at which LRU's curve is drawn."""


def hits_of(lengths: Lengths, trace: str, policy: str, capacity: int) -> tuple[float, float]:
    """Hits in percent of the prompt tokens, of all requests and of the second half."""
    result = simulate_cache(_blocks(lengths, trace), capacity, EVICTIONS[policy]())
    return 100 * result.cold.share, 100 * result.warm.share


def curve_of(lengths: Lengths, trace: str) -> list[float]:
    """LRU's warm hit rate at `CURVE_POINTS`, in percent."""
    curve = lru_curve(_blocks(lengths, trace))
    return [100 * curve.at(capacity)[1].share for capacity in CURVE_POINTS]


def _blocks(lengths: Lengths, trace: str) -> list[PromptBlocks]:
    prompts = []
    for row in lengths.rows(trace):
        assert row.blocks is not None, "the trace has no ids of blocks"
        size = row.blocks.size
        known = Blocks(row.blocks.ids, size, int(min(row.prompt_len, size * len(row.blocks.ids))))
        prompts.append(Prompt(row.prompt_len, prefix=(known,)))
    return stored_blocks(prompts)


@dataclass(frozen=True, slots=True)
class HitRates:
    """Every policy at every capacity, and LRU's whole curve."""

    name: str = "hit-rates"
    title: str = "Hit rates of a prefix cache alone (FIFO, LRU and the optimum, Mooncake's traces)"
    traces: tuple[str, ...] = WITH_BLOCKS

    def pieces(self, options: Options) -> Sequence[Piece]:
        lengths = options.lengths
        known = [name for name in self.traces if lengths.has_file(name)]
        points = [
            Piece(f"{trace} {policy} {capacity}", hits_of, (lengths, trace, policy, capacity))
            for trace in known
            for policy in PUBLISHED[trace]
            for capacity in CAPACITIES
        ]
        return points + [Piece(f"{trace} curve", curve_of, (lengths, trace)) for trace in known]

    def outcome(self, options: Options, results: Mapping[str, Any]) -> Outcome:
        rows: list[Row] = []
        claims = []
        known = [name for name in self.traces if options.lengths.has_file(name)]
        for trace in known:
            for policy, published in PUBLISHED[trace].items():
                for capacity, percent in zip(CAPACITIES, published, strict=True):
                    cold, warm = results[f"{trace} {policy} {capacity}"]
                    rows.append(
                        {"trace": trace, "policy": policy, "capacity": capacity, "cold_pct": cold,
                         "warm_pct": warm}
                    )  # fmt: skip
                    subject, quantity = f"{trace}, {policy}", f"hits at {capacity:,} blocks"
                    expected = Near(percent, Tolerance(0.1))
                    claims.append(Claim(self.name, subject, quantity, "%", expected, warm))
        curves: list[Row] = [
            {"trace": trace, "capacity": capacity, "warm_pct": percent}
            for trace in known
            for capacity, percent in zip(CURVE_POINTS, results[f"{trace} curve"], strict=True)
        ]
        chart = Chart(tuple(_panel(trace, rows, results[f"{trace} curve"]) for trace in known))
        facts = [
            "The cache is simulated without time and running requests; warm: the second half of the "
            "requests, cold (in the CSV): all of them. Counted like the package kvcache-simulator 0.1.3: "
            "in blocks of the trace, including the last and partial one.",
        ]
        return Outcome({"": rows, "-lru": curves}, claims, chart, facts)


def _panel(trace: str, rows: Sequence[Row], curve: Sequence[float]) -> LinePanel:
    lines = [Line("lru", tuple(map(float, CURVE_POINTS)), tuple(curve))]
    for policy in ("fifo", "belady"):
        own = [row for row in rows if (row["trace"], row["policy"]) == (trace, policy)]
        xs, ys = (tuple(float(str(row[key])) for row in own) for key in ("capacity", "warm_pct"))
        lines.append(Line(policy, xs, ys))
    return LinePanel(trace, Axis("Capacity (blocks of 512)", is_log=True), Axis("Hits (%)"), tuple(lines))


FIGURE = HitRates()
