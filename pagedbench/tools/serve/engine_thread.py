"""EngineThread: the engine in its own thread, which never waits for a client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from pagedbench.request import Status
from pagedbench.runs.runner import serve
from pagedbench.tools.serve.choice import LENGTH, STOP
from pagedbench.tools.serve.live_request import Update, failed
from pagedbench.tools.serve.statistics import Statistics
from pagedbench.workload.live import LiveArrivals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pagedbench.engine import Engine
    from pagedbench.metrics.records import RunRecord
    from pagedbench.request import SequenceGroup
    from pagedbench.tools.serve.live_request import LiveRequest


GC_THRESHOLDS = (5_000, 10, 10)
"""Thresholds of the garbage collector: each connection leaves cycles, more than a run does."""


class Waker:
    """Calls a function in the event loop from another thread; cheaper than `call_soon_threadsafe`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
        self._loop, self._act = loop, act
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)
        loop.add_reader(self._read_end, self._on_wake)

    def wake(self) -> None:
        """Request the call, from the other thread; several requests before the call are one."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full, so the call will be made
            os.write(self._write_end, b".")

    def close(self) -> None:
        """Release the pipe, in the event loop, when the other thread has ended."""
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
        os.close(self._write_end)

    def _on_wake(self) -> None:
        os.read(self._read_end, 4096)
        self._act()


class EngineThread:
    """Runs the engine. The public methods are called in the event loop.

    One call of the event loop delivers the results of an iteration to all clients; until that call is made,
    further iterations add their results to it.
    """

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self.statistics = Statistics()
        self.crash: str | None = None
        self.record: RunRecord | None = None
        self._loop = loop
        self._source = LiveArrivals(self._publish)
        self._requests: dict[int, LiveRequest] = {}
        self._left: deque[tuple[LiveRequest, str, float]] = deque()  # requests whose clients have gone
        self._outbox: list[tuple[LiveRequest, Update, float]] = []
        self._lock = threading.Lock()  # for the outbox
        self._waker = Waker(loop, self._deliver)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def now(self) -> float:
        """Seconds of the engine's clock."""
        return self.engine.clock.now

    @property
    def num_pending(self) -> int:
        """Number of requests that are not admitted yet."""
        return self._source.num_new + len(self.engine.scheduler.waiting)

    @property
    def num_unfinished(self) -> int:
        """Number of requests whose clients are waiting."""
        return len(self._requests)

    def submit(self, live: LiveRequest) -> None:
        """Serve a request."""
        self._requests[live.request_id] = live
        if self.crash is not None:
            self._fail(live, self.crash)
        else:
            self._source.add(live.request)

    def cancel(self, live: LiveRequest, reason: str = "abort") -> None:
        """Abort the request before the next iteration, because its client has gone."""
        if self._requests.pop(live.request_id, None) is not None:
            self._left.append((live, reason, self.now))
            self._source.cancel(live.request_id)

    def close(self) -> None:
        """Serve the remaining requests, then end."""
        self._source.close()

    async def join(self, timeout: float) -> None:
        """Wait for the end of the thread."""
        await asyncio.to_thread(self._thread.join, timeout)
        if not self._thread.is_alive():
            self._waker.close()

    def _deliver(self) -> None:
        with self._lock:
            outbox, self._outbox = self._outbox, []
        now = self.now
        for live, update, time in outbox:
            live.inbox.put(live.prompt, update)
            self.statistics.delivery.add(now - time)

    def _fail(self, live: LiveRequest, reason: str) -> None:
        self._requests.pop(live.request_id, None)
        live.inbox.put(live.prompt, failed(reason))

    # In the engine's thread

    def _run(self) -> None:
        self.record = record = serve(self.engine, self._source, GC_THRESHOLDS)
        if record.crash is not None:
            self.crash = record.crash
            self._loop.call_soon_threadsafe(self._fail_all)

    def _fail_all(self) -> None:
        assert self.crash is not None
        for live in list(self._requests.values()):
            self._fail(live, self.crash)

    def _publish(self, left: Iterable[SequenceGroup], now: float) -> None:
        """After a turn of the engine: note the results of all requests, and deliver them."""
        updates: list[tuple[LiveRequest, Update, float]] = []
        scheduler, requests = self.engine.scheduler, self._requests
        for group in scheduler.running.values():
            live = requests.get(group.request.request_id)
            if live is None:  # it is about to be aborted
                continue
            if self._observe(live, group, now) and live.is_watched and (tokens := live.new_tokens(group)):
                updates.append((live, Update(tokens, num_cached=group.num_cached), now))
        for group in left:
            live = requests.pop(group.request.request_id, None)
            if live is not None:
                self._observe(live, group, now)
                self._count_end(live, _reason(group), now)
                updates.append((live, self._last_update(live, group), now))
        while self._left:
            self._count_end(*self._left.popleft())
        self._note_state()
        if updates:
            with self._lock:
                is_called, self._outbox = bool(self._outbox), self._outbox + updates
            if not is_called:
                self._waker.wake()

    def _observe(self, live: LiveRequest, group: SequenceGroup, now: float) -> bool:
        """Record the times of a request. Returns whether it got a token."""
        statistics = self.statistics
        if live.admit_time is None and group.admit_step is not None:
            live.admit_time = self.engine.recorder.times_of(group.admit_step)[0]
            statistics.queue.add(live.admit_time - group.request.arrival_time)
        num_positions = max(len(sequence.output_ids) for sequence in group.sequences)
        number, live.num_positions = num_positions - live.num_positions, num_positions
        if number <= 0:
            return False
        if live.first_time is None:
            live.first_time, number = now, number - 1
            statistics.first_token.add(now - group.request.arrival_time)
            statistics.prompt_tokens += group.prompt_len
        if number:
            statistics.inter_token.add((now - live.token_time) / number, number)
        live.token_time = now
        return True

    def _last_update(self, live: LiveRequest, group: SequenceGroup) -> Update:
        if group.status is Status.FAILED:
            return failed(
                f"the request can never fit: it needs {group.num_sequences} x {group.max_len} tokens of "
                f"the KV pool's {self.engine.memory.num_slots}, or more sequences than --max-num-seqs"
            )
        tokens = live.new_tokens(group) if live.is_watched else live.all_tokens(group)
        return Update(tokens, group.status, group.num_cached)

    def _count_end(self, live: LiveRequest, reason: str, now: float) -> None:
        """Record why a request has left and, if its reply is complete, its times."""
        statistics = self.statistics
        statistics.finished[reason] += 1
        if reason not in (STOP, LENGTH):
            return
        statistics.latency.add(now - live.request.arrival_time)
        if live.first_time is not None and live.num_positions > 1:
            statistics.per_token.add((now - live.first_time) / (live.num_positions - 1))

    def _note_state(self) -> None:
        statistics, engine = self.statistics, self.engine
        scheduler, memory = engine.scheduler, engine.memory
        statistics.num_turns += 1
        statistics.num_running, statistics.num_waiting = len(scheduler.running), len(scheduler.waiting)
        statistics.usage = memory.usage(head_refused=False)
        statistics.num_preemptions = engine.recorder.num_preemptions
        statistics.prefix_queries, statistics.prefix_hits = (
            memory.num_prefix_queried,
            memory.num_prefix_hits,
        )
        statistics.generation_tokens = engine.recorder.num_tokens


def _reason(group: SequenceGroup) -> str:
    """Why a request has left, if its client waited to the end."""
    if group.status is not Status.FINISHED:
        return "error"
    return STOP if all(sequence.has_stopped for sequence in group.sequences) else LENGTH
