"""CountingRecorder: a Recorder for an endless service, which keeps counts and no rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.metrics.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.memory.usage import MemoryUsage
    from pagedbench.request import Request, SequenceGroup
    from pagedbench.scheduling.batch import Batch


class CountingRecorder(Recorder):
    """Forgets each iteration when the next one has run, and each request when it has left."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._times = (0.0, 0.0)
        self._num_preempted = 0

    @property
    def num_preemptions(self) -> int:
        return self._num_preempted

    def times_of(self, step: int) -> tuple[float, float]:
        """When the last iteration began and ended: others are not kept."""
        return self._times

    def arrived(self, requests: Iterable[Request], now: float) -> None:
        self.num_arrived += sum(1 for _ in requests)

    def step(
        self,
        start: float,
        end: float,
        batch: Batch,
        usage: MemoryUsage,
        num_more_tokens: int = 0,
        broadcast_bytes: int = 0,
    ) -> None:
        self._times = (start, end)
        self._num_preempted += len(batch.preemptions)
        self._count(batch, usage, batch.num_decode_tokens + num_more_tokens)

    def finished(self, groups: Iterable[SequenceGroup], now: float) -> None:
        self.num_finished += sum(1 for _ in groups)
