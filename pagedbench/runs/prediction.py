"""Prediction: how far a run on a server's twin may be off, and what in it was never measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.backend import SimulatedBackend
from pagedbench.metrics.formulas import summarize

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.metrics.records import RunRecord
    from pagedbench.plan import Plan
    from pagedbench.simulation.twin import Domain, Twin
    from pagedbench.workload.arrivals import ArrivalSource
    from pagedbench.workload.trace import Trace

PREDICTED = (
    "ttft_mean_ms",
    "ttft_p50_ms",
    "ttft_p99_ms",
    "tpot_mean_ms",
    "itl_mean_ms",
    "itl_p99_ms",
    "e2el_mean_s",
    "normalized_latency_mean_s",
    "request_throughput",
    "output_throughput",
)
"""Metrics that get an interval."""

SERVER_OPTIONS = ("system", "prefill", "max_num_seqs", "max_num_batched_tokens", "max_model_len",
                  "kv_slots", "block_size", "prefix_caching")  # fmt: skip
"""Options of `run` that describe a server."""

UNSEEN = ("blocks_swapped_in", "blocks_swapped_out", "cow_copies")
"""What an iteration may also do, at a cost that no client can see."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Iterations that are larger than any measured one.

    Attributes:
        share: their share of all iterations.
        most: the size of the largest of them.
        measured: the size of the largest measured one.
    """

    what: str
    share: float
    most: int
    measured: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """How far a predicted run may be off.

    Attributes:
        intervals: by metric, the smallest and the largest value over this run and runs with other draws of
            the twin's costs; a further such run lies between them with probability (n - 1) / (n + 1) or
            more.
        num_draws: n.
        outside: iterations that exceed the measurements.
        unmeasured: iterations that moved or copied blocks, whose costs no client can see.
        changed: options in which the run differs from the server, as `calibrate` was told: name -> the
            server's value.
    """

    intervals: dict[str, tuple[float, float]]
    num_draws: int
    outside: tuple[Outside, ...]
    unmeasured: int
    changed: dict[str, str | int]

    @property
    def probability(self) -> float:
        """Of a further such run lying in an interval, provided that the draws scatter as the server does;
        the server's scheduling does not vary in them."""
        return max(self.num_draws - 1, 0) / (self.num_draws + 1)

    def document(self) -> dict[str, object]:
        """The prediction's part of summary.json."""
        return {**asdict(self), "probability": self.probability}


def predict(plan: Plan, trace: Trace, record: RunRecord) -> Prediction | None:
    """How far the run of a plan may be off; None if it is not on a twin, or did not end."""
    twin = plan.twin
    if twin is None or record.interrupted or record.crash is not None:
        return None
    intervals = _intervals(plan, trace, twin, record)
    values = {name: getattr(plan.config, name) for name in SERVER_OPTIONS} | {"kv_slots": plan.kv_slots}
    return Prediction(
        intervals=intervals,
        num_draws=len(twin.draws),
        outside=tuple(_outside(record, twin.domain)),
        unmeasured=int(np.count_nonzero(np.any([record.steps[name] for name in UNSEEN], axis=0))),
        changed={name: value for name, value in twin.options.items() if values.get(name, value) != value},
    )


def as_client(serve: Callable[[ArrivalSource], RunRecord], trace: Trace, delay: float) -> RunRecord:
    """A run as seen by a client that is `delay` seconds away, there and back.

    Requests reach the engine when they are sent, and everything it does is seen `delay` later: except for
    the engine's clock, this equals a delay that is partly on the way there. A client that waits for a reply
    also waits for the delay.
    """
    waits = tuple(None if wait is None else replace(wait, pause=wait.pause + delay) for wait in trace.waits)
    clients = trace.clients
    if clients is not None:
        clients = replace(clients, pauses=tuple(pause + delay for pause in clients.pauses))
    record = serve(replace(trace, waits=waits, clients=clients).arrivals())
    steps = record.steps
    return replace(
        record,
        steps=replace(
            steps,
            start=steps.start + delay,
            end=steps.end + delay,
            decode_ends=steps.decode_ends + delay,
        ),
        requests=tuple(
            replace(
                item,
                admit_time=None if item.admit_time is None else item.admit_time + delay,
                finish_time=item.finish_time + delay,
            )
            for item in record.requests
        ),
    )


def _intervals(plan: Plan, trace: Trace, twin: Twin, record: RunRecord) -> dict[str, tuple[float, float]]:
    """The range of every metric over a run and runs with each of the draws."""
    every = [summarize(record)]
    assert plan.step_times is not None, "a twin is simulated"
    for number, draw in enumerate(twin.draws, start=1):
        costs = draw.fitted.costs(plan.system.attention, plan.step_times.source)
        drawn = replace(plan, step_times=costs, config=replace(plan.config, seed=plan.config.seed + number))
        engine = SimulatedBackend().make_engine(drawn, prefixes=trace.prefixes, requests=trace.requests)
        every.append(summarize(as_client(engine.run, trace, draw.delay)))
    found = {
        name: [float(v) for one in every if isinstance(v := one[name], int | float)] for name in PREDICTED
    }
    return {name: (min(own), max(own)) for name, own in found.items() if own}


def _outside(record: RunRecord, domain: Domain) -> list[Outside]:
    """The measures in which some iterations exceed any measured one."""
    steps = record.steps
    limits = (
        ("decoding sequences", steps["decode_tokens"], domain.sequences),
        ("prompt tokens", steps["prefill_tokens"], domain.prefill_tokens),
        ("tokens kept", steps["kv_token_states"], domain.kept_tokens),
    )
    return [
        Outside(what, float(np.mean(column > most)), int(column.max()), most)
        for what, column, most in limits
        if len(column) and column.max() > most
    ]
