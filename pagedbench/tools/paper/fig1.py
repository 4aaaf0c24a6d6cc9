"""Fig. 1: the memory of an A100 with OPT-13B, and throughput over the batch (section 1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.show.charts import Axis, BarPanel, Chart, LinePanel, bars_of, lines_of
from pagedbench.tools.paper.claim import Between, Claim, Near, Tolerance
from pagedbench.tools.paper.experiment import Experiment
from pagedbench.tools.paper.figure import Outcome, Piece, setup_facts
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagedbench.tools.paper.figure import Options, Row
    from pagedbench.tools.paper.lengths import Lengths

NOMINAL_MEMORY = 40e9
"""Bytes to which the paper's percentages refer: the nominal memory of the card (it reports 42.4e9)."""

BATCHES = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40)
SYSTEMS = ("paged", "orca-max")
NUM_REQUESTS = 400

CROWD = Experiment(
    "opt-13b", "sim:a100-40gb", "sharegpt", 1.0, rate=float(NUM_REQUESTS), cost_model="vllm-2023"
)
"""All requests arrive at once, so that the limit on sequences is the batch as long as memory suffices."""


def throughput(experiment: Experiment, system: str, lengths: Lengths, seed: int) -> Row:
    """Mean of running requests, output tokens per second, and the percentage of the pool that is in use.

    Measured while requests wait: after that the batch only shrinks.
    """
    requests = experiment.requests(lengths, seed)
    record = experiment.engine(system).run(FixedArrivals(requests))
    steps = record.steps
    busy = steps["waiting"] > 0
    seconds = float((steps.end - steps.start)[busy].sum())
    used = 1.0 - steps["kv_free"][busy].mean() / record.capacity
    return {
        "running_mean": float(steps["running"][busy].mean()),
        "output_tokens_per_s": float(steps["decode_tokens"][busy].sum()) / seconds,
        "kv_used_pct": 100.0 * float(used),
    }


@dataclass(frozen=True, slots=True)
class MemorySplit:
    """The figure."""

    name: str = "fig1"
    title: str = "Fig. 1: memory of an A100-40GB that serves OPT-13B, and throughput over the batch"
    traces: tuple[str, ...] = ("sharegpt",)

    def pieces(self, options: Options) -> Sequence[Piece]:
        lengths, seed = options.lengths, options.seed
        return [
            Piece(
                f"{system} {batch}", throughput, (replace(CROWD, max_num_seqs=batch), system, lengths, seed)
            )
            for system in SYSTEMS
            for batch in BATCHES
        ]

    def outcome(self, options: Options, results: Mapping[str, Row]) -> Outcome:
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
            {"system": system, "max_num_seqs": batch, **results[f"{system} {batch}"]}
            for system in SYSTEMS
            for batch in BATCHES
        ]
        claims = [
            Claim("fig1", "OPT-13B", "parameters", "%", Near(65.0, Tolerance(2.0)), shares["parameters"]),
            Claim("fig1", "OPT-13B", "KV cache", "%", Between(30.0, None, "more than 30"),
                  shares["left for the KV cache"]),
        ]  # fmt: skip
        facts = [
            *setup_facts(CROWD, options),
            f"Shares are of {NOMINAL_MEMORY:g} bytes, as the paper's; the card reports "
            f"{float(rows['device memory']):.4g}.",
            f"Throughput: {NUM_REQUESTS} requests at once, --max-num-seqs from 1 to {max(BATCHES)}, "
            "while requests wait.",
        ]
        card = [{**row, "card": "A100-40GB"} for row in memory]
        parts_panel = BarPanel(
            "Memory",
            Axis("% of 40 GB"),
            ("A100-40GB",),
            bars_of(card, "card", "share_of_40_gb_pct", "part"),
            is_stacked=True,
        )
        panels = [
            LinePanel("", Axis("Batched requests"), Axis(label),
                      lines_of(batches, "running_mean", column, "system"))
            for column, label in (("kv_used_pct", "KV cache usage (%)"),
                                  ("output_tokens_per_s", "Output tokens/s"))
        ]  # fmt: skip
        return Outcome({"": memory, "-batches": batches}, claims, Chart((parts_panel, *panels)), facts)


FIGURE = MemorySplit()
