"""Ends the run of a fleet that can no longer meet the objective: most fleets of a search are too small."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.request import Status
from pagedbench.workload.arrivals import ArrivalSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pagedbench.engine import Engine
    from pagedbench.request import Request, SequenceGroup
    from pagedbench.runs.criterion import Criterion
    from pagedbench.workload.arrivals import Sleeper


class Hopeless:
    """Sums up ended requests for a criterion; the remaining requests can only add to the sums.

    Attributes:
        is_certain: the criterion is missed, whatever happens to the remaining requests.
    """

    def __init__(self, criterion: Criterion, requests: Sequence[Request]) -> None:
        """`requests`: all that will be served."""
        self.is_certain = False
        self._bounds = [bound for bound in criterion.bounds.bounds if bound[0] != "itl"]
        self._is_share = criterion.attainment is not None
        self._most = [0.0]
        if criterion.attainment is not None:
            self._most = [(1 - criterion.attainment) * len(requests)]
        else:
            long = sum(request.reply_len > 1 for request in requests)  # the others have no tpot
            self._most = [
                limit * (long if name == "tpot" else len(requests)) for name, limit in self._bounds
            ]
        self._sums = [0.0] * len(self._most)

    def note(self, engine: Engine, group: SequenceGroup, now: float) -> bool:
        """A request has left its engine. Returns `is_certain`."""
        if group.status is not Status.FINISHED:
            return self.is_certain
        values = [_measured(name, engine, group, now) for name, _ in self._bounds]
        if self._is_share:
            missed = any(value > limit for value, (_, limit) in zip(values, self._bounds, strict=True))
            values = [float(missed)]
        for index, value in enumerate(values):
            self._sums[index] += value
            slack = 1e-9 * self._most[index]  # a sum in another order is a slightly different number
            self.is_certain |= self._sums[index] > self._most[index] + slack
        return self.is_certain


def _measured(name: str, engine: Engine, group: SequenceGroup, now: float) -> float:
    """One latency of a request that ended now, in seconds; 0 if it has none."""
    request, steps = group.request, engine.recorder
    if name == "e2el":
        return now - request.arrival_time
    if name == "normalized_latency":
        return (now - request.arrival_time) / request.reply_len
    if name == "queue_time":
        return (
            0.0 if group.admit_step is None else steps.times_of(group.admit_step)[0] - request.arrival_time
        )
    first = group.spans[0].prefill_step
    assert first is not None, "the first token comes with the prompt"
    first_token = steps.times_of(first)[1]
    if name == "ttft":
        return first_token - request.arrival_time
    return (now - first_token) / (request.reply_len - 1) if request.reply_len > 1 else 0.0


class Watched(ArrivalSource):
    """The arrivals at one engine, whose run ends when the criterion is certain to be missed."""

    def __init__(self, source: ArrivalSource, hopeless: Hopeless, engine: Engine) -> None:
        self._source = source
        self._hopeless = hopeless
        self._engine = engine

    def due(self, now: float) -> list[Request]:
        return self._source.due(now)

    def completed(self, groups: Iterable[SequenceGroup], now: float) -> None:
        for group in groups:
            self._hopeless.note(self._engine, group, now)
        if self._hopeless.is_certain:
            self._engine.stop()
        self._source.completed(groups, now)

    def wait(self, clock: Sleeper) -> None:
        self._source.wait(clock)

    @property
    def next_time(self) -> float | None:
        return self._source.next_time

    @property
    def has_more(self) -> bool:
        return self._source.has_more
