"""Experiment: one set-up of the paper, for any system at any rate in virtual time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.backend import SimulatedBackend
from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.prompt import Prompt
from pagedbench.tools.paper.arrivals import paper_requests
from pagedbench.tools.paper.lengths import TRANSLATION, mixed_rounds, translation_rows
from pagedbench.workload.arrivals import FixedArrivals
from pagedbench.workload.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.engine import Engine
    from pagedbench.metrics.records import RunRecord
    from pagedbench.plan import Plan
    from pagedbench.request import Request
    from pagedbench.tools.paper.lengths import Lengths

VLLM_MAX_NUM_SEQS, ORCA_MAX_NUM_SEQS = 2048, 256
"""The limits on sequences: the authors gave their Orca fewer than their vLLM (`server.py` of both)."""

TRANSLATIONS = 20_000
PREFIX_SEED = 16


@dataclass(frozen=True, slots=True)
class HostTimes:
    """An assumption about the host, in addition to a cost model's step time.

    Attributes:
        step: seconds added to every iteration.
        request: seconds per running request, instead of the cost model's; None: the cost model's.
    """

    step: float = 0.0
    request: float | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """The most tokens per round: longer prompts lose their beginnings, longer replies their ends."""

    prompt_len: int
    output_len: int

    def applied(self, row: Row) -> Row:
        return Row(min(row.prompt_len, self.prompt_len), min(row.output_len, self.output_len))


@dataclass(frozen=True, slots=True)
class Experiment:
    """A set-up. Times in seconds, rates in requests per second.

    Attributes:
        trace: a data set of `lengths`.
        window: the period over whose iterations the paper averages.
        n, beam_width: how every reply is decoded.
        cost_model: the value of `--cost-model`.
        batch_size: FasterTransformer's, as chosen by the authors (`ft/run_*.py`).
        prefix_len: the number of tokens in the common beginning of all prompts.
        length_scale: a factor for assumed lengths.
        cut: limits on a chat's rounds; None: they are whole.
        new_share: the share of chat rounds that begin a conversation; None: as in the data set.
        max_num_seqs: the limit for every system; None: the authors' limits.
        host: assumptions about step times.
    """

    model: str
    device: str
    trace: str
    duration: float
    rate: float = 1.0
    window: tuple[float, float] = (0.0, math.inf)
    n: int = 1
    beam_width: int | None = None
    cost_model: str = "published"
    batch_size: int | None = None
    prefix_len: int = 0
    length_scale: float = 1.0
    cut: Cut | None = None
    new_share: float | None = None
    block_size: int = 16
    preemption: str = "auto"
    max_num_seqs: int | None = None
    host: HostTimes = HostTimes()

    def plan(self, system: str) -> Plan:
        """The plan of one system."""
        plan = make_plan(
            RunConfig(
                system=system, model=self.model, device=self.device, cost_model=self.cost_model,
                rate=self.rate, duration=self.duration, n=self.n, beam_width=self.beam_width,
                temperature=1.0 if self.n > 1 else 0.0, block_size=self.block_size,
                preemption=self.preemption if system == "paged" else "auto",
                batch_size=self.batch_size if system == "fastertransformer" else None,
                max_num_seqs=self.max_num_seqs
                or (VLLM_MAX_NUM_SEQS if system == "paged" else ORCA_MAX_NUM_SEQS),
            )
        )  # fmt: skip
        return plan if self.host == HostTimes() else _with_host(plan, self.host)

    def requests(self, lengths: Lengths, seed: int) -> list[Request]:
        """The requests of a run; with the authors' lengths and seed 0, they are equal to the authors'.

        Raises:
            TraceError: the lengths cannot be read, or all are too long.
        """
        requests = paper_requests(
            self._rows(lengths), rate=self.rate, duration=self.duration, seed=seed, n=self.n,
            beam_width=self.beam_width,
        )  # fmt: skip
        if not self.prefix_len:
            return list(requests)
        return [replace(request, prompt=self._behind_prefix(request.prompt)) for request in requests]

    def run(self, system: str, lengths: Lengths, seed: int) -> RunRecord:
        """Serve the requests until the window ends."""
        return self.engine(system).run(FixedArrivals(self.requests(lengths, seed)))

    def engine(self, system: str) -> Engine:
        """A new engine; the common beginning of prompts is in its pool, if the system can share it."""
        prefixes = (self._prefix,) if self.prefix_len else ()
        return SimulatedBackend().make_engine(self.plan(system), prefixes=prefixes, horizon=self.window[1])

    @property
    def _prefix(self) -> Prompt:
        return Prompt(self.prefix_len, PREFIX_SEED)

    def _behind_prefix(self, prompt: Prompt) -> Prompt:
        length = self.prefix_len + prompt.length
        return Prompt(length, prompt.seed, prefix=self._prefix.segments)

    def _rows(self, lengths: Lengths) -> Iterable[Row]:
        if self.trace == TRANSLATION:
            return translation_rows(TRANSLATIONS, self.length_scale)
        if self.new_share is None:
            rows: Iterable[Row] = lengths.rows(self.trace)
        else:
            assert self.cut is not None, "mixed rounds are those of a chat"
            rows = mixed_rounds(lengths, self.new_share, self.cut.prompt_len)
        return rows if self.cut is None else map(self.cut.applied, rows)


def _with_host(plan: Plan, host: HostTimes) -> Plan:
    from pagedbench.simulation.batch_costs import BatchCosts

    costs = plan.step_times
    assert isinstance(costs, BatchCosts), "only rooflines have a host"
    request = costs.request if host.request is None else host.request
    return replace(plan, step_times=replace(costs, step=costs.step + host.step, request=request))
