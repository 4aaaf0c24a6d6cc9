"""Experiment: one set-up of the paper, run for several systems in virtual time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.backend import SimulatedBackend
from pagedbench.config import RunConfig
from pagedbench.paper.arrivals import paper_requests
from pagedbench.plan import make_plan
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from pagedbench.metrics.records import RunRecord
    from pagedbench.plan import Plan
    from pagedbench.workload.rows import Row

MAX_NUM_SEQS = {"paged": 2048}
ORCA_MAX_NUM_SEQS = 256
"""The authors gave their Orca fewer sequences than their vLLM (`server.py` of both)."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A set-up, and the window of time over whose iterations the paper averages. Times in seconds.

    Attributes:
        n, beam_width: how every reply is decoded.
        cost_model: of the simulated card, as `--cost-model`.
    """

    model: str
    device: str
    rate: float
    duration: float
    window: tuple[float, float]
    systems: tuple[str, ...]
    n: int = 1
    beam_width: int | None = None
    cost_model: str = "published"

    def plan(self, system: str) -> Plan:
        """The engine of one system, resolved."""
        config = RunConfig(
            system=system,
            model=self.model,
            device=self.device,
            cost_model=self.cost_model,
            rate=self.rate,
            duration=self.duration,
            max_num_seqs=MAX_NUM_SEQS.get(system, ORCA_MAX_NUM_SEQS),
        )
        return make_plan(config)

    def run(self, rows: Iterable[Row], seed: int) -> Iterator[tuple[str, RunRecord]]:
        """Each system on the same requests, cut off where the window ends."""
        requests = paper_requests(
            rows,
            rate=self.rate,
            duration=self.duration,
            seed=seed,
            n=self.n,
            beam_width=self.beam_width,
        )
        for system in self.systems:
            plan = self.plan(system)
            engine = SimulatedBackend().make_engine(plan, horizon=self.window[1])
            yield system, engine.run(FixedArrivals(requests))

    def in_window(self, record: RunRecord) -> NDArray[np.bool_]:
        """Which iterations begin within the window.  # [num_steps]"""
        start, end = self.window
        return (record.steps.start >= start) & (record.steps.start <= end)
