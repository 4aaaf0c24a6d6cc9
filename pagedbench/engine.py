"""Engine: the loop from arrivals to records. The same for every system, model and clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pagedbench.memory.disk import NoDisk
from pagedbench.metrics.recorder import Recorder
from pagedbench.scheduling.repetition import Repeating

if TYPE_CHECKING:
    from pagedbench.clock import Clock
    from pagedbench.memory.disk import Disk
    from pagedbench.memory.manager import KVManager
    from pagedbench.metrics.records import RunRecord
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import Executor
    from pagedbench.scheduling.scheduler import Scheduler
    from pagedbench.workload.arrivals import ArrivalSource


class Engine:
    """One system at work: its scheduler, its memory manager, its executor and its clock."""

    def __init__(
        self,
        scheduler: Scheduler,
        memory: KVManager,
        executor: Executor,
        clock: Clock,
        *,
        disk: Disk | None = None,
        horizon: float = math.inf,
    ) -> None:
        """`disk`: the file of the memory's tiers; `horizon`: seconds after which the run is cut off."""
        self.scheduler = scheduler
        self.memory = memory
        self.executor = executor
        self.clock = clock
        self.disk = disk or NoDisk()
        self.horizon = horizon
        self.recorder = Recorder(memory.num_slots)
        self.stopping = False
        self._latest: Batch | None = None  # executed last, with known tokens

    def stop(self) -> None:
        """End the run after the present iteration (called by the interrupt handler)."""
        self.stopping = True

    def run(self, source: ArrivalSource, *, repeats: bool = False) -> RunRecord:
        """Serve all requests of the source, and return what happened. `repeats`: see `repeat`.

        Raises:
            Stalled: requests are left, none of them can run, and no other request will arrive.
        """
        self.start()
        repeats = repeats and self.clock.is_virtual
        while self._goes_on and (source.has_more or self.scheduler.has_unfinished):
            if self.step(source):
                while repeats and self.repeat(source, source.next_time):
                    pass
            elif not self.disk.wait(self.clock, source.next_time):
                source.wait(self.clock)
        return self.finish(source)

    def start(self) -> None:
        """Set the clock to zero and note what memory holds before the first request."""
        self.recorder.owned_at_start = self.memory.num_owned
        if self.memory.tiers is not None:
            self.recorder.tier_counts = self.memory.tiers.counts
        if self.memory.pages is not None:
            self.recorder.page_counts = self.memory.pages.counts
        self.recorder.num_pinned = self.memory.usage(head_refused=False).token_states
        self.clock.start()

    def step(self, source: ArrivalSource) -> bool:
        """One turn of the loop: take in what has arrived, run an iteration, hand back what has ended.

        Returns whether anything happened. If nothing did, the next turn makes sense only after
        `source.wait`.
        """
        self._hand_over(source)
        start = self.clock.now
        self.memory.start_iteration(start)
        batch, self._latest = self.scheduler.schedule(), None
        if batch:
            usage = self.memory.usage(head_refused=batch.blocked_by.is_memory)  # of this iteration
            samples = self.executor.execute(batch)
            self.clock.tick(batch)
            num_more = self.scheduler.update(batch, samples)
            self.recorder.step(start, self.clock.now, batch, usage, num_more, samples.broadcast_bytes)
            self._latest = None if samples.sequences or samples.beams else batch
        return self._take_finished(source) or bool(batch)

    def _take_finished(self, source: ArrivalSource) -> bool:
        done = self.scheduler.take_finished()  # completed, failed and aborted alike
        self.recorder.finished(done, self.clock.now)
        source.completed(done, self.clock.now)  # closed loops and chat turns depend on it
        return bool(done)

    def repeat(self, source: ArrivalSource, until: float | None) -> bool:
        """Run the next iterations, until a sequence ends, in one go.

        Nothing is decided in them, since nothing arrives and memory suffices: they leave the same records
        as that many turns of the loop, in a fraction of the time. Only in virtual time.

        Args:
            until: the next time at which a request may arrive; None: only after something has ended.

        Returns whether the iterations after these may be such a stretch too.
        """
        latest, scheduler = self._latest, self.scheduler
        self._latest = None
        if latest is None or self.stopping or not isinstance(scheduler, Repeating):
            return False
        if (ahead := scheduler.next_alike(latest)) is None:
            return False
        batch, number = ahead
        limit = self.horizon if until is None else min(self.horizon, until)
        times = self.clock.decode_ends(batch, number, limit, scheduler.counter)
        stretch = scheduler.repeat(batch, times)
        if stretch is None:
            return False
        self.clock.sleep_until(times[stretch.number])
        self.recorder.repeat(times[: stretch.number + 1], stretch)
        scheduler.complete_due()
        self._latest = batch
        return self._take_finished(source)

    def finish(self, source: ArrivalSource) -> RunRecord:
        """What happened since `start`."""
        self.disk.close()
        is_cut = source.has_more or self.scheduler.has_unfinished
        return self.recorder.finish(
            owned_at_end=self.memory.num_owned, interrupted=is_cut, cache_times=self.memory.cache_times
        )

    def salvage(self, crash: str) -> RunRecord:
        """What was recorded of a run that ended with the error `crash`."""
        self.disk.close()
        return self.recorder.finish(owned_at_end=0, interrupted=True, crash=crash)

    @property
    def _goes_on(self) -> bool:
        return not self.stopping and self.clock.now < self.horizon

    def _hand_over(self, source: ArrivalSource) -> None:
        now = self.clock.now
        for request_id in source.cancelled():
            self.scheduler.abort(request_id)
        requests = source.due(now)
        for request in requests:
            self.scheduler.add(request)  # one that can never fit is finished at once, as FAILED
        self.recorder.arrived(requests, now)
