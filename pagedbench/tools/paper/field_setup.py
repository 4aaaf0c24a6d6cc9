"""Set-ups of measurements by others after the paper, on our cards and shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.backend import SimulatedBackend
from pagedbench.config import RunConfig
from pagedbench.metrics.formulas import summarize
from pagedbench.plan import make_plan
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.workload.arrivals import FixedArrivals
from pagedbench.workload.sessions import Clients, SessionArrivals

if TYPE_CHECKING:
    from pagedbench.metrics.records import RunRecord
    from pagedbench.tools.paper.figure import Row
    from pagedbench.workload.arrivals import ArrivalSource

SHORT = 200
"""Prompts with fewer tokens are short ones, the others those of 2,048."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Requests of uniform lengths, on one card. Lengths in tokens.

    Attributes:
        prompt, output: the middle of the lengths; they differ from it by up to the share `spread`.
        clients: the number in a closed loop; None: requests arrive at `rate`, or all at once.
        long_share: the share of requests with a prompt of `long_prompt` tokens instead.
    """

    model: str
    device: str
    num_requests: int
    prompt: int
    output: int
    spread: float = 0.0
    clients: int | None = None
    rate: float | None = None
    long_share: float = 0.0
    long_prompt: int = 2048
    kv_slots: int | None = None
    max_model_len: int = 8192
    max_num_seqs: int = 256
    prefill: str = "chunked"
    max_num_batched_tokens: int = 8192
    prefill_chunk_size: int | None = None
    watermark: float = 0.0
    victim: str = "latest"
    admission: str = "watermark"
    tensor_parallel_size: int = 1
    system: str = "paged"
    memory: str | None = None
    cost_model: str = "auto"

    @property
    def config(self) -> RunConfig:
        return RunConfig(
            model=self.model, device=self.device, kv_slots=self.kv_slots,
            max_model_len=self.max_model_len, max_num_seqs=self.max_num_seqs, prefill=self.prefill,
            max_num_batched_tokens=self.max_num_batched_tokens,
            prefill_chunk_size=self.prefill_chunk_size, watermark=self.watermark,
            victim=self.victim, admission=self.admission, preemption="recompute",
            tensor_parallel_size=self.tensor_parallel_size, system=self.system, memory=self.memory,
            cost_model=self.cost_model,
        )  # fmt: skip

    def requests(self, seed: int) -> list[Request]:
        draws, number = np.random.default_rng(seed), self.num_requests
        prompts, outputs = (
            draws.integers(round(middle * (1 - self.spread)), round(middle * (1 + self.spread)) + 1, number)
            for middle in (self.prompt, self.output)
        )
        gaps, are_long = draws.exponential(1.0, number), draws.random(number) < self.long_share
        times = np.zeros(number) if self.rate is None else np.cumsum(gaps) / self.rate
        prompts = np.where(are_long, self.long_prompt, prompts)
        rows = zip(times.tolist(), prompts.tolist(), outputs.tolist(), strict=True)
        return [
            Request(index, time, Prompt(prompt, seed=index), SamplingParams(output))
            for index, (time, prompt, output) in enumerate(rows)
        ]

    @property
    def demand(self) -> int:
        """The tokens of all requests when they end, if they have the middle lengths."""
        return self.num_requests * (self.prompt + self.output)

    def run(self, seed: int) -> RunRecord:
        requests, source = self.requests(seed), None
        if self.clients is not None:
            pauses = (0.0,) * len(requests)
            source = SessionArrivals(requests, [None] * len(requests), Clients(self.clients, pauses))
        arrivals: ArrivalSource = source or FixedArrivals(requests)
        return SimulatedBackend().make_engine(make_plan(self.config)).run(arrivals)


def figures_of(setup: Setup, seed: int) -> Row:
    """All figures of a run that occur in claims. Times in ms, shares in percent."""
    record = setup.run(seed)
    values, latencies = summarize(record), record.latencies
    gaps, first = 1e3 * latencies.itl, 1e3 * latencies.ttft
    is_short = latencies.prompt_len < SHORT
    tax = values["recompute_tax"]
    assert isinstance(tax, float), "every run computes something"
    row: Row = {
        "preemptions": values["preemptions_recompute"],
        "recomputed_tokens": values["recomputed_tokens"],
        "recompute_tax_pct": 100 * tax,
        "output_throughput": values["output_throughput"],
        "ttft_p50_ms": values["ttft_p50_ms"],
        "ttft_p99_ms": values["ttft_p99_ms"],
        "tpot_p99_ms": values["tpot_p99_ms"],
        "itl_p50_ms": float(np.percentile(gaps, 50)),
        "itl_p99_ms": float(np.percentile(gaps, 99)),
        "itl_p999_ms": float(np.percentile(gaps, 99.9)),
        "itl_max_ms": float(gaps.max()),
    }
    for name, chosen in (("short", is_short), ("long", ~is_short)):
        row[f"{name}_ttft_p99_ms"] = float(np.percentile(first[chosen], 99)) if chosen.any() else None
    return row
