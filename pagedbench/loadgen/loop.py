"""Loop: sends the calls of one worker when they are due, and receives the replies.

Sending comes first: the loop checks the clock between any two reads, so that a call is late by at most one
read. Before a call is due the loop sleeps, wakes a little early, and then polls the clock and the sockets
without sleeping. All sockets are read before anything that arrived is parsed.
"""

from __future__ import annotations

import math
import select
import time
from collections import deque
from typing import TYPE_CHECKING

from pagedbench.loadgen.flight import Flight
from pagedbench.loadgen.pool import Pool
from pagedbench.loadgen.timeline import Timeline
from pagedbench.loadgen.waiting import wait
from pagedbench.loadgen.wire import Exchange, Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.loadgen.connection import Connection
    from pagedbench.loadgen.job import Job
    from pagedbench.loadgen.wire import Call

TELL_TIME = 0.25
"""Seconds between two signs of life to the parent."""

MIN_LEAD = 0.02
LEAD_FACTOR = 4
"""A connection is opened this many times earlier than the time that opening one took."""

Arrived = tuple["Flight", float, "bytes | OSError"]


class Loop:
    """One run of one worker.

    Args:
        control: file descriptor of messages from the parent.
        is_stopped: reads these messages, and returns whether the run must end at once.
        keep: called with every exchange that has ended.
        tell: called from time to time with the number of calls that have not ended.
    """

    def __init__(
        self, job: Job, limit: int, control: int, is_stopped: Callable[[], bool],
        keep: Callable[[Exchange], None], tell: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._timeline = Timeline(job.calls, job.num_clients)
        self._timeout = job.timeout
        self._lead = max(MIN_LEAD, LEAD_FACTOR * job.reached.connect_time)
        self._control, self._is_stopped, self._keep, self._tell = control, is_stopped, keep, tell
        self._epoll = select.epoll()
        self._epoll.register(control, select.EPOLLIN)
        self.pool = Pool(job.reached, self._epoll, limit)
        self._num_left = len(job.calls)
        self._queue: deque[Flight] = deque()  # due, but without a connection
        self._deadlines: deque[tuple[float, Flight]] = deque()
        self._zero = self._next_look = self._next_tell = 0.0

    def run(self, zero: float) -> None:
        """Send all calls, and return when all replies have ended.

        Args:
            zero: the start of the run, on the monotonic clock.
        """
        self._zero = zero
        while self._num_left:
            self._keep_time()
            arrived: list[Arrived] = []
            for fd, _ in self._wait():
                if fd == self._control:
                    if self._is_stopped():
                        self._stop()
                        return
                else:
                    self._receive(fd, arrived)
                self._send_due()
            for flight, at, data in arrived:
                self._take_in(flight, at, data)
                self._send_due()
        self.pool.close()

    @property
    def _now(self) -> float:
        return time.monotonic() - self._zero

    def _wait(self) -> list[tuple[int, int]]:
        """The events of the sockets; returns at the latest a little before the next call is due."""
        return wait(self._epoll, min(self._timeline.next_time, self._next_look) - self._now)

    def _keep_time(self) -> None:
        """Send calls that are due, open connections for those that will be, and give up late ones."""
        self._send_due()
        now = self._now
        if self._timeline.next_ahead <= now + self._lead:
            self._timeline.look_ahead(now + self._lead)
            self.pool.provide(self._timeline.num_soon + len(self._queue))
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][1].is_complete):
            _, flight = self._deadlines.popleft()
            if not flight.is_complete:
                self._give_up(flight, Failure.TIMEOUT, f"no complete reply within {self._timeout:g} s")
        self._serve_queue()
        if now >= self._next_tell:
            self._tell(self._num_left)
            self._next_tell = now + TELL_TIME
        deadline = self._deadlines[0][0] if self._deadlines else math.inf
        self._next_look = min(self._next_tell, deadline, self._timeline.next_ahead - self._lead)

    def _send_due(self) -> None:
        """Send the calls that are due, and those that wait for a connection."""
        while self._timeline.next_time <= self._now:
            scheduled, call = self._timeline.take()
            self._dispatch(scheduled, call)
        self._serve_queue()

    def _dispatch(self, scheduled: float, call: Call) -> None:
        exchange = Exchange(call.request_id, scheduled, math.nan, math.nan, None, [], math.nan)
        flight = Flight(call, exchange)
        self._deadlines.append((scheduled + self._timeout, flight))
        connection = None if self._queue else self.pool.take()
        if connection is not None:
            self._send(flight, connection)
        else:
            self._queue.append(flight)

    def _serve_queue(self) -> None:
        """Send waiting calls on the available connections, and open more connections for the others."""
        while self._queue:
            if (connection := self.pool.take()) is not None:
                self._send(self._queue.popleft(), connection)
                continue
            self.pool.provide(len(self._queue))
            if self.pool.by_fd:  # one is open or opening
                return
            flight = self._queue.popleft()  # no connection can be opened
            self._give_up(flight, Failure.CONNECTION, f"no connection: {self.pool.problem}")

    def _send(self, flight: Flight, connection: Connection) -> None:
        flight.connection, connection.flight = connection, flight
        payload = flight.call.payload
        start = self._now
        try:
            taken = connection.send(payload)
        except OSError as error:
            self._give_up(flight, Failure.CONNECTION, f"{error.strerror or error}, before a reply")
            return
        flight.exchange.start = start
        if taken == len(payload):
            flight.exchange.sent = self._now
        else:
            flight.rest = memoryview(payload)[taken:]
            self.pool.watch(connection, writing=True)

    def _receive(self, fd: int, arrived: list[Arrived]) -> None:
        """Read from a socket; parsing comes later."""
        connection = self.pool.by_fd.get(fd)
        if connection is None:
            return  # closed since the poll
        if not connection.is_open:
            self._advance(connection)
            return
        flight = connection.flight
        try:
            if flight is not None and flight.rest is not None:
                self._send_rest(flight, connection)
            data: bytes | OSError | None = connection.receive()
        except OSError as error:
            data = error
        if flight is not None and data is not None:
            arrived.append((flight, self._now, data))
        elif data is not None:
            self.pool.drop(connection)  # idle: closed, or an unrequested reply

    def _advance(self, connection: Connection) -> None:
        self.pool.advance(connection)
        is_lost = connection.fd not in self.pool.by_fd
        if is_lost and len(self._queue) > self.pool.num_available:
            flight = self._queue.popleft()
            self._give_up(flight, Failure.CONNECTION, f"no connection: {self.pool.problem}")

    def _send_rest(self, flight: Flight, connection: Connection) -> None:
        assert flight.rest is not None
        flight.rest = flight.rest[connection.send(flight.rest) :]
        if not flight.rest:
            flight.rest, flight.exchange.sent = None, self._now
            self.pool.watch(connection, writing=False)

    def _take_in(self, flight: Flight, at: float, data: bytes | OSError) -> None:
        """Parse what has arrived for a call, unless the call was given up since."""
        if flight.is_complete:
            return
        if isinstance(data, OSError):
            self._give_up(flight, Failure.CONNECTION, data.strerror or str(data), at)
            return
        if data:
            flight.feed(data, at)
        else:
            flight.close()
        if flight.is_complete:
            self._end(flight, at)

    def _give_up(self, flight: Flight, why: Failure, detail: str, at: float | None = None) -> None:
        flight.exchange.failure, flight.exchange.detail = why, detail
        flight.is_complete, flight.keeps_alive = True, False
        if flight in self._queue:
            self._queue.remove(flight)
        self._end(flight, self._now if at is None else at)

    def _end(self, flight: Flight, at: float) -> None:
        """A call is over: keep what was seen, and free its connection."""
        connection, exchange = flight.connection, flight.exchange
        flight.connection = None
        exchange.end = at
        if connection is not None and flight.keeps_alive and flight.rest is None:
            self.pool.give_back(connection)
        elif connection is not None:
            self.pool.drop(connection)
        self._finish(exchange)
        has_failed = exchange.failure is not None
        for call in self._timeline.ended(flight.call, at, has_failed=has_failed):
            self._skip(call, f"request {call.after}, which it waits for, has no complete reply")
        flight.release()

    def _finish(self, exchange: Exchange) -> None:
        self._num_left -= 1
        self._keep(exchange)

    def _skip(self, call: Call, detail: str) -> None:
        now = math.nan
        skipped = Exchange(
            call.request_id, call.due, now, now, None, [], self._now, Failure.SKIPPED, detail
        )
        self._finish(skipped)

    def _stop(self) -> None:
        """End at once: calls under way are cut off, the others are not sent."""
        for call in self._timeline.rest():
            self._skip(call, "the run was stopped")
        for _, flight in self._deadlines:
            if not flight.is_complete:
                is_sent = flight.connection is not None
                why = Failure.STOPPED if is_sent else Failure.SKIPPED
                flight.exchange.failure, flight.exchange.detail = why, "the run was stopped"
                flight.exchange.end = self._now
                self._finish(flight.exchange)
        self.pool.close()
