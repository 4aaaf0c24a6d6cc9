"""Handover: the way of a request from its prefill replica to its decode replica."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pagedbench.fleet.disaggregation import (
    DecodeScheduler,
    PrefillScheduler,
    Transfers,
    has_decode_part,
    prefill_part,
)
from pagedbench.fleet.routers import Arrival
from pagedbench.request import Status

if TYPE_CHECKING:
    from pagedbench.fleet.replica import Replica
    from pagedbench.fleet.routers import Router
    from pagedbench.request import Request, SequenceGroup


class Moved(NamedTuple):
    """A request arrives at a decode replica, with its keys and values, at this time."""

    time: float
    replica: int
    request: Request


@dataclass(frozen=True, slots=True)
class _Held:
    """A prompt's keys and values, still held by a prefill replica."""

    replica: Replica
    group: SequenceGroup


class Handover:
    """Hands requests over from prefill replicas to decode replicas.

    Attributes:
        num_replicas: the number of decode replicas.
        transfers: the transfers so far.
    """

    def __init__(self, num_replicas: int, router: Router, transfers: Transfers) -> None:
        """`router`: chooses the decode replica."""
        self.num_replicas = num_replicas
        self.transfers = transfers
        self._router = router
        self._whole: dict[int, Request] = {}  # by request id, those whose prompts are being computed
        self._held: dict[int, _Held] = {}  # by request id
        self._free_times: dict[int, float] = {}  # by replica, the time at which its link becomes free

    def first_part(self, request: Request) -> Request:
        """The part of a request for its prefill replica."""
        self._whole[request.request_id] = request
        return prefill_part(request)

    def hand_over(
        self, group: SequenceGroup, holder: Replica, replicas: list[Replica], now: float
    ) -> Moved | None:
        """Hand over a computed prompt. Returns where the request continues; None if it has ended."""
        request = self._whole.pop(group.request.request_id)
        if group.status is not Status.FINISHED:
            return None
        self._held[request.request_id] = _Held(holder, group)
        if not has_decode_part(request):
            self.release(request.request_id)
            return None
        arrival = Arrival(request.request_id, request.prompt_len, request.session_id)
        chosen = self._router.choose(arrival, [replica.view for replica in replicas])
        free_time = self._free_times.get(holder.number, 0.0)
        time, free_time = self.transfers.begin(group, now, free_time)
        self._free_times[holder.number] = free_time
        return Moved(time, chosen.number, replace(request, arrival_time=time))

    def release_arrived(self, replica: Replica) -> list[int]:
        """Free what the decode replica has admitted. Returns the numbers of the replicas that held it."""
        scheduler = replica.engine.scheduler
        assert isinstance(scheduler, DecodeScheduler)
        return [self.release(request_id) for request_id in scheduler.take_arrived()]

    def release(self, request_id: int) -> int:
        """Free a prompt's keys and values. Returns the number of the replica that held them."""
        held = self._held.pop(request_id)
        scheduler = held.replica.engine.scheduler
        assert isinstance(scheduler, PrefillScheduler)
        held.replica.view.note_change()
        scheduler.release(held.group)
        return held.replica.number
