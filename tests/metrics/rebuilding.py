"""Memory at every iteration, twice: as the events say, and as the manager's own tables say."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pagedbench.clock import VirtualClock
from pagedbench.engine import Engine
from pagedbench.memory.groups.hybrid import Hybrid
from pagedbench.memory.paged import Paged
from pagedbench.memory.placement import BlockTable
from pagedbench.metrics.event_log import GAINS, NONE, Event
from pagedbench.metrics.pool_observer import observe
from pagedbench.request import Request, Status
from pagedbench.simulation.executor import Simulated
from pagedbench.systems import SYSTEMS
from pagedbench.workload.arrivals import FixedArrivals
from serving import BLOCK_SIZE, STEP_TIMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagedbench.memory.manager import KVManager
    from pagedbench.metrics.event_log import EventLog, EventTable
    from pagedbench.metrics.records import RunRecord
    from pagedbench.scheduling.scheduler import Limits

Owner = tuple[int, int]
Owners = dict[int, set[Owner]]


@dataclass
class Moment:
    """What memory holds after an iteration: the owners (request, sequence) of every block that has any."""

    device: Owners
    host: Owners
    idle: set[int]


@dataclass
class Rebuilt:
    """Memory as the events say, a row after the other."""

    owners: tuple[Owners, Owners] = field(default_factory=lambda: (defaultdict(set), defaultdict(set)))
    kept: set[int] = field(default_factory=set)

    def take(self, event: int, block: int, owner: Owner, tier: int) -> None:
        owners = self.owners[tier][block]
        if event in (Event.ALLOCATE, Event.COPY):
            assert not owners or owner in owners, "it has an owner"
        if event == Event.SHARE:
            assert owners, "it has no owner to share with"
        if event in GAINS:
            owners.add(owner)
        elif event == Event.FREE:
            owners.remove(owner)
        elif event == Event.KEEP:
            assert block not in self.kept
            self.kept.add(block)
        elif event == Event.EVICT:
            assert not owners
            self.kept.remove(block)

    def moment(self) -> Moment:
        device, host = ({b: set(o) for b, o in owners.items() if o} for owners in self.owners)
        return Moment(device, host, {block for block in self.kept if block not in device})


def rebuilt(table: EventTable, num_steps: int) -> Iterator[Moment]:
    """Memory after each iteration, from the events alone."""
    memory, row = Rebuilt(), 0
    for step in range(num_steps):
        while row < len(table) and table.step[row] <= step:
            block = int(table.block[row])
            if block != NONE:
                owner = (int(table.request_id[row]), int(table.sequence[row]))
                memory.take(int(table.event[row]), block, owner, int(table.tier[row]))
            row += 1
        yield memory.moment()
    assert all(table.step[row:] == num_steps), "events of iterations that never were"


def held(memory: KVManager, scheduler: Any) -> Moment:
    """What the manager's own tables say."""
    device: Owners = defaultdict(set)
    host: Owners = defaultdict(set)
    for group in scheduler.unfinished():
        for sequence in group.sequences:
            owner = (group.request.request_id, sequence.sequence_id)
            if group.status in (Status.RUNNING, Status.PREFILLING):
                for number in range(len(memory.layer_groups)):
                    placement = memory.placement(sequence, number)
                    is_table = isinstance(placement, BlockTable)
                    for block in placement.blocks if is_table else (placement.start,):
                        device[block].add(owner)
            elif group.status is Status.SWAPPED and memory.attention == "paged":
                assert isinstance(memory, Paged | Hybrid)
                for entry in memory.host.entries(sequence):
                    if not entry.is_pinned:
                        host[entry.number].add(owner)
    idle: set[int] = set()
    if isinstance(memory, Paged | Hybrid):
        pinned = {block for block in memory.index.pinned if block not in device}
        pool = memory.pool
        idle = {block for block in pool._kept if not pool.num_owners(block)} | pinned
    return Moment(dict(device), dict(host), idle)


def observed(
    system: str, memory: KVManager, requests: list[Request], limits: Limits
) -> tuple[EventLog, RunRecord, list[Moment]]:
    """Serve the requests, and look at the tables after each iteration."""
    scheduler = SYSTEMS[system].scheduler(memory, limits)
    engine = Engine(scheduler, memory, Simulated(), VirtualClock(STEP_TIMES.step_time))
    log = observe(scheduler, memory, BLOCK_SIZE)
    source, moments = FixedArrivals(requests), []
    engine.start()
    while source.has_more or scheduler.has_unfinished:
        num_steps = len(engine.recorder._starts)
        if not engine.step(source):
            source.wait(engine.clock)
        if len(engine.recorder._starts) > num_steps:
            moments.append(held(memory, scheduler))
    memory.check_integrity()
    return log, engine.finish(source), moments
