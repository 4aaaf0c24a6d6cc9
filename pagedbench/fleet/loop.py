"""Fleet: engines in one virtual time, stepped in the order of their iterations, behind a router.

Every engine is that of `run`; the fleet only decides whose turn it is. At equal times replies come back
first, then replicas become ready, requests arrive, and only then iterations begin: so an iteration includes
requests that arrive at its beginning, as in a run of one engine.
"""

from __future__ import annotations

import heapq
import itertools
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from pagedbench.fleet.replica import Replica, Role
from pagedbench.fleet.replica_view import Schedule
from pagedbench.fleet.routers import Arrival
from pagedbench.memory.prefix import prompt_keys
from pagedbench.request import Status
from pagedbench.workload.arrivals import Stalled

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.engine import Engine
    from pagedbench.fleet.autoscaling import Autoscaler
    from pagedbench.fleet.handover import Handover
    from pagedbench.fleet.routers import Router, Surroundings
    from pagedbench.request import Request, SequenceGroup
    from pagedbench.workload.arrivals import ArrivalSource


class Event(IntEnum):
    """The kinds of events, in their order at equal times."""

    ENDED = 0  # replies come back
    READY = 1  # a replica takes requests from now on
    ARRIVAL = 2
    MOVED = 3  # a prompt's keys and values are where its reply will be decoded
    SCALE = 4
    STEP = 5  # an engine's next turn


class Fleet:
    """N engines in one virtual time, and the router in front of them.

    Attributes:
        replicas: all replicas so far.
        stopping: does the loop end after the present event?
    """

    def __init__(
        self,
        make_engine: Callable[[Role], Engine],
        router: Router,
        surroundings: Surroundings,
        *,
        num_replicas: int,
        staleness: float = 0.0,
        autoscaler: Autoscaler | None = None,
        handover: Handover | None = None,
        is_over: Callable[[Engine, SequenceGroup, float], bool] | None = None,
        is_open: bool = False,
        repeats: bool = True,
    ) -> None:
        """Start the first replicas, which are ready at once.

        Args:
            num_replicas: replicas that take requests at the start.
            autoscaler: starts other replicas, and lets them leave.
            handover: hands computed prompts over to decode replicas.
            is_over: asked about every request that has left an engine: does the run end here?
            repeats: may iterations that are alike run in one go?
            is_open: does no request wait for the reply to another?
        """
        self.schedule = Schedule(staleness)
        self.replicas: list[Replica] = []
        self.stopping = False
        self._make_engine = make_engine
        self._router = router
        self._block_size = surroundings.block_size
        self._autoscaler = autoscaler
        self._handover = handover
        self._is_over = is_over
        self._repeats = repeats
        self._is_open = is_open and handover is None
        self._events: list[tuple[float, Event, int, int, Any]] = []  # a heap
        self._count = itertools.count()
        for _ in range(num_replicas):
            self._start(Role.MIXED if handover is None else Role.PREFILL)
        for _ in range(0 if handover is None else handover.num_replicas):
            self._start(Role.DECODE)
        self._routed = self._open(*self._entry_roles)
        if autoscaler is not None:
            self._push(autoscaler.interval, Event.SCALE)

    @property
    def _entry_roles(self) -> tuple[Role, ...]:
        return (Role.MIXED, Role.PREFILL)

    def stop(self) -> None:
        """End the run after the present event."""
        self.stopping = True

    def run(self, source: ArrivalSource) -> None:
        """Serve all requests of the source.

        Raises:
            Stalled: requests are left, none of them can run, and no other request will arrive.
        """
        self._source = source
        while not self.stopping:
            arrival = source.next_time
            if arrival is not None and (not self._events or (arrival, Event.ARRIVAL) < self._events[0][:2]):
                self.schedule.now = arrival
                for request in source.due(arrival):
                    self._route(request)
            elif self._events:
                self._handle(*heapq.heappop(self._events))
            elif source.has_more or any(not replica.is_idle for replica in self.replicas):
                raise Stalled("requests are left, but no replica runs any of them")
            else:
                return

    def _push(self, time: float, event: Event, number: int = 0, content: Any = None) -> None:
        heapq.heappush(self._events, (time, event, number, next(self._count), content))

    def _handle(self, time: float, event: Event, number: int, _: int, content: Any) -> None:
        self.schedule.now = time
        if event is Event.STEP:
            self._step(self.replicas[number])
        elif event is Event.ENDED:
            self._take_back(self.replicas[number], content)
        elif event is Event.MOVED:
            self._send(self.replicas[number], content)
        elif event is Event.READY:
            self._routed = self._open(*self._entry_roles)
        else:
            self._scale()

    # Requests

    def _route(self, request: Request) -> None:
        arrival = Arrival(
            request.request_id,
            request.prompt_len,
            request.session_id,
            prompt_keys(request.prompt, self._block_size) if self._router.reads_prompts else (),
        )
        chosen = self._router.choose(arrival, [replica.view for replica in self._routed])
        replica = self.replicas[chosen.number]
        part = request if self._handover is None else self._handover.first_part(request)
        self._send(replica, part)

    def _send(self, replica: Replica, request: Request) -> None:
        replica.send(request)
        self._wake(replica)

    def _wake(self, replica: Replica) -> None:
        if not replica.is_due:
            replica.is_due = True
            self._push(self.schedule.now, Event.STEP, replica.number)

    def _step(self, replica: Replica) -> None:
        ended, next_time = replica.step(self.schedule.now, self._quiet_until())
        if ended:
            self._push(replica.engine.clock.now, Event.ENDED, replica.number, ended)
        replica.is_due = next_time is not None
        if next_time is not None:
            self._push(next_time, Event.STEP, replica.number)
        if self._handover is not None and replica.role is Role.DECODE:
            for holder in self._handover.release_arrived(replica):
                self._wake(self.replicas[holder])

    def _quiet_until(self) -> float:
        """The time before which nothing is sent to a replica and its state is not read; may be infinite.

        If requests wait for replies, any turn of another engine may cause a request.
        """
        times = [self.schedule.next_report]
        if self._source.next_time is not None:
            times.append(self._source.next_time)
        if not self._is_open:
            times += [event[0] for event in self._events[:1]]
        elif self._autoscaler is not None:
            times += [time for time, event, *_ in self._events if event in (Event.SCALE, Event.READY)]
        return min(times)

    def _take_back(self, replica: Replica, groups: list[SequenceGroup]) -> None:
        """Process replies of a replica that have come back."""
        whole = []
        for group in groups:
            replica.note_end(group)
            if self._is_over is not None:
                self.stopping |= self._is_over(replica.engine, group, self.schedule.now)
            if self._handover is None or self._is_last_part(replica, group):
                whole.append(group)
        self._source.completed(whole, self.schedule.now)
        if replica.is_leaving and not replica.num_unfinished:
            replica.end_time = self.schedule.now

    def _is_last_part(self, replica: Replica, group: SequenceGroup) -> bool:
        """Has the whole request ended? If only its prompt was computed, it is handed over."""
        assert self._handover is not None
        if replica.role is Role.DECODE:
            if group.status is Status.FAILED:
                self._wake(self.replicas[self._handover.release(group.request.request_id)])
            return True
        moved = self._handover.hand_over(group, replica, self._open(Role.DECODE), self.schedule.now)
        if moved is None:
            self._wake(replica)  # its blocks are free
            return True
        self._push(moved.time, Event.MOVED, moved.replica, moved.request)
        return False

    # Replicas

    def _start(self, role: Role, ready_time: float = 0.0) -> Replica:
        replica = Replica(
            len(self.replicas),
            self._make_engine(role),
            self.schedule,
            role=role,
            start_time=self.schedule.now,
            ready_time=ready_time,
            reads_caches=self._router.reads_caches and role is not Role.DECODE,
            repeats=self._repeats,
        )
        self.replicas.append(replica)
        return replica

    def _open(self, *roles: Role) -> list[Replica]:
        """The replicas of these roles that take requests now."""
        now = self.schedule.now
        return [
            item
            for item in self.replicas
            if item.role in roles and not item.is_leaving and item.ready_time <= now
        ]

    def _scale(self) -> None:
        """Start replicas, or let the latest leave, as the autoscaler decides."""
        assert self._autoscaler is not None
        now, staying = self.schedule.now, [item for item in self.replicas if not item.is_leaving]
        wanted = self._autoscaler.wanted([item.load() for item in self._routed], len(staying))
        for _ in range(wanted - len(staying)):
            replica = self._start(Role.MIXED, now + self._autoscaler.cold_start)
            self._push(replica.ready_time, Event.READY)
        for replica in reversed(staying[wanted:]):
            replica.is_leaving = True
            if not replica.num_unfinished:
                replica.end_time = now
        self._routed = self._open(*self._entry_roles)
        if self._source.has_more or any(item.num_unfinished for item in self.replicas):
            self._push(now + self._autoscaler.interval, Event.SCALE)
