"""Fig. 1: where the memory of an A100 goes with OPT-13B, and throughput over the batch (section 1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.show.charts import BarPanel, Bars, Chart, Line, LinePanel
from pagedbench.show.styles import style_of
from pagedbench.tools.paper.claim import Between, Claim, Near, Tolerance
from pagedbench.tools.paper.experiment import Experiment
from pagedbench.tools.paper.figure import Outcome, Piece
from pagedbench.tools.paper.setup_facts import setup_facts
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagedbench.tools.paper.figure import Options, Row
    from pagedbench.tools.paper.lengths import Lengths

NOMINAL_MEMORY = 40e9
"""Bytes of which the paper's percentages are: what the card is sold with (it reports 42.4e9)."""

BATCHES = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40)
SYSTEMS = ("paged", "orca-max")
NUM_REQUESTS = 400

CROWD = Experiment(
    "opt-13b", "sim:a100-40gb", "sharegpt", 1.0, rate=float(NUM_REQUESTS), cost_model="vllm-2023"
)
"""Everybody comes at once, so that the limit on sequences is the batch, as long as memory allows."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """At one limit on sequences. `running`: mean of requests; `kv_used`: percent of the pool taken."""

    running: float
    tokens_per_s: float
    kv_used: float


def throughput(experiment: Experiment, system: str, lengths: Lengths, seed: int) -> Throughput:
    """Serve the crowd until nobody waits any more: from then on the batch only shrinks."""
    requests = experiment.requests(lengths, seed)
    record = experiment.engine(system).run(FixedArrivals(requests))
    steps = record.steps
    busy = steps["waiting"] > 0
    seconds = float((steps.end - steps.start)[busy].sum())
    used = 1.0 - steps["kv_free"][busy].mean() / record.capacity
    return Throughput(
        running=float(steps["running"][busy].mean()),
        tokens_per_s=float(steps["decode_tokens"][busy].sum()) / seconds,
        kv_used=100.0 * float(used),
    )


@dataclass(frozen=True, slots=True)
class MemorySplit:
    """The figure."""

    name: str = "fig1"
    title: str = "Fig. 1: memory of an A100-40GB that serves OPT-13B, and throughput over the batch"
    traces: tuple[str, ...] = ("sharegpt",)

    def pieces(self, options: Options) -> Sequence[Piece]:
        return [
            Piece(
                f"{system} {batch}",
                throughput,
                (replace(CROWD, max_num_seqs=batch), system, options.lengths, options.seed),
            )
            for system in SYSTEMS
            for batch in BATCHES
        ]

    def outcome(self, options: Options, results: Mapping[str, Throughput]) -> Outcome:
        plan = CROWD.plan("paged")
        rows = dict(plan.memory_plan)
        parts = {name: rows[name] for name in ("parameters", "activations", "workspace")}
        parts["left for the KV cache"] = plan.kv_bytes
        shares = {name: 100 * size / NOMINAL_MEMORY for name, size in parts.items()}
        memory: list[Row] = [
            {"part": name, "bytes": int(size), "share_of_40_gb_pct": shares[name]}
            for name, size in parts.items()
        ]
        batches: list[Row] = [
            {"system": system, "max_num_seqs": batch, "running_mean": found.running,
             "output_tokens_per_s": found.tokens_per_s, "kv_used_pct": found.kv_used}
            for system in SYSTEMS
            for batch in BATCHES
            for found in [results[f"{system} {batch}"]]
        ]  # fmt: skip
        claims = [
            Claim(
                self.name, "OPT-13B", "parameters", "%", Near(65.0, Tolerance(2.0)), shares["parameters"]
            ),
            Claim(
                self.name, "OPT-13B", "KV cache", "%", Between(30.0, None, "more than 30"),
                shares["left for the KV cache"],
            ),
        ]  # fmt: skip
        facts = [
            *setup_facts(replace(CROWD, max_num_seqs=None), "paged", options),
            f"Shares are of {NOMINAL_MEMORY:g} bytes, as the paper's; the card reports "
            f"{float(rows['device memory']):.4g}.",
            f"Throughput: {NUM_REQUESTS} requests at once, --max-num-seqs from 1 to {max(BATCHES)}, "
            "while anybody waits.",
        ]
        return Outcome({"": memory, "-batches": batches}, claims, _chart(shares, results), facts)


def _chart(shares: Mapping[str, float], results: Mapping[str, Throughput]) -> Chart:
    bars = tuple(Bars(name, (share,)) for name, share in shares.items())

    def lines(values: Mapping[str, tuple[float, ...]]) -> tuple[Line, ...]:
        return tuple(
            Line(
                style_of(system).title,
                tuple(results[f"{system} {batch}"].running for batch in BATCHES),
                ys,
                system,
            )
            for system, ys in values.items()
        )

    def column(read: str) -> dict[str, tuple[float, ...]]:
        return {
            system: tuple(getattr(results[f"{system} {batch}"], read) for batch in BATCHES)
            for system in SYSTEMS
        }

    return Chart(
        (
            BarPanel("Memory", "% of 40 GB", ("A100-40GB",), bars, is_stacked=True),
            LinePanel("", "Batched requests", "KV cache usage (%)", lines(column("kv_used"))),
            LinePanel("", "Batched requests", "Output tokens/s", lines(column("tokens_per_s"))),
        )
    )


FIGURE = MemorySplit()
