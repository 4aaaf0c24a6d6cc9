"""Simulates a fleet of a given size; replicas that do not depend on each other may run in any process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.backend import SimulatedBackend
from pagedbench.fleet.disaggregation import (
    DecodeScheduler,
    Link,
    PrefillScheduler,
    Transfers,
    check_scheduler,
    with_scheduler,
)
from pagedbench.fleet.handover import Handover
from pagedbench.fleet.loop import Fleet
from pagedbench.fleet.replica import Role
from pagedbench.fleet.replica_view import Load, ReplicaView, Schedule
from pagedbench.fleet.routers import ROUTERS, Arrival, LeastOutstanding, Router, Surroundings
from pagedbench.policies import policy_of
from pagedbench.runs.garbage import rare_collections
from pagedbench.runs.parallel import stopping
from pagedbench.tools.plan.fleet_record import FleetRecord, ReplicaRecord, record_of, summed_up
from pagedbench.tools.plan.hopeless import Hopeless, Watched
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.engine import Engine
    from pagedbench.fleet.autoscaling import Autoscaler
    from pagedbench.plan import Plan
    from pagedbench.prompt import Prompt
    from pagedbench.request import Request
    from pagedbench.runs.criterion import Criterion
    from pagedbench.runs.parallel import Stop
    from pagedbench.workload.arrivals import ArrivalSource
    from pagedbench.workload.trace import Trace


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many replicas of a unit compute prompts, and how many decode."""

    prefill: int
    decode: int

    def __str__(self) -> str:
        return f"{self.prefill}:{self.decode}"


@dataclass(frozen=True, slots=True)
class Setup:
    """A fleet without its size.

    Attributes:
        router: a name, or `module:Class`.
        ratio: of prefill to decode replicas; None: every replica does both.
        link: between prefill and decode replicas.
        autoscaler: changes the number of replicas; None: it is fixed.
    """

    plan: Plan
    trace: Trace
    router: str
    staleness: float = 0.0
    ratio: Ratio | None = None
    link: Link | None = None
    autoscaler: Autoscaler | None = None

    @property
    def is_divisible(self) -> bool:
        """Are the replicas independent of each other, so that each can run by itself?"""
        is_plain = self.ratio is None and self.autoscaler is None
        return self.is_open and is_plain and self.make_router().is_blind

    @property
    def is_open(self) -> bool:
        """Do no requests wait for the replies to others?"""
        return not self.trace.waits and self.trace.clients is None

    @property
    def surroundings(self) -> Surroundings:
        config = self.plan.config
        return Surroundings(config.seed, config.block_size, self.plan.num_blocks)

    def make_router(self) -> Router:
        """A new router.

        Raises:
            ConfigError: there is no router with this name, or it cannot be built.
        """
        return policy_of("--router", self.router, ROUTERS, Router, self.surroundings)

    def make_engine(self, role: Role = Role.MIXED) -> Engine:
        """A new engine of a replica.

        Raises:
            ConfigError: its prefill and decode cannot be separated.
        """
        engine = make_engine(self.plan, self.trace.prefixes, self.trace.requests)
        if role is Role.MIXED:
            return engine
        check_scheduler(engine)
        return with_scheduler(engine, PrefillScheduler if role is Role.PREFILL else DecodeScheduler)


def make_engine(plan: Plan, prefixes: Items[Prompt], requests: Items[Request]) -> Engine:
    """The same engine as that of `run`."""
    return SimulatedBackend().make_engine(plan, prefixes=prefixes, requests=requests)


def simulate(
    setup: Setup, size: int, criterion: Criterion | None, stop: Stop, *, ends_early: bool = False
) -> FleetRecord:
    """Serve the trace with `size` replicas, or units of a ratio.

    Args:
        criterion: the limits of replicas are found for it.
        ends_early: end the run when the criterion is certain to be missed.
    """
    hopeless = None
    if ends_early and criterion is not None and setup.ratio is None:
        hopeless = Hopeless(criterion, setup.trace.requests)
    if not setup.is_divisible:
        return _together(setup, size, criterion, stop, hopeless)
    replicas: list[ReplicaRecord] = []
    for share in shares(setup, size):
        replicas.append(serve_share(setup.plan, share, criterion, stop, hopeless))
        if stop.is_set() or (hopeless is not None and hopeless.is_certain):
            break
    return joined(replicas, is_cut=stop.is_set() or bool(hopeless and hopeless.is_certain))


@dataclass(frozen=True, slots=True)
class Share:
    """The requests of one replica, in order of arrival, and what their prompts share."""

    number: int
    requests: tuple[Request, ...]
    prefixes: tuple[Prompt, ...]


def shares(setup: Setup, size: int) -> list[Share]:
    """The requests that a router that asks no replica sends to each of `size` replicas."""
    router, schedule = setup.make_router(), Schedule(0.0)
    views = [ReplicaView(number, schedule, _no_load) for number in range(size)]
    requests: list[list[Request]] = [[] for _ in views]
    for request in setup.trace.requests:
        arrival = Arrival(request.request_id, request.prompt_len, request.session_id)
        requests[router.choose(arrival, views).number].append(request)
    return [Share(number, tuple(own), setup.trace.prefixes) for number, own in enumerate(requests)]


def _no_load() -> Load:
    return Load(0, 0, 0, 0.0)


def serve_share(
    plan: Plan, share: Share, criterion: Criterion | None, stop: Stop, hopeless: Hopeless | None = None
) -> ReplicaRecord:
    """Serve the requests of one replica by itself."""
    engine = make_engine(plan, share.prefixes, share.requests)
    source: ArrivalSource = FixedArrivals(share.requests)
    if hopeless is not None:
        source = Watched(source, hopeless, engine)
    repeats = plan.system.is_built_in  # other classes may decide anything at any time
    with stopping(stop, engine.stop), rare_collections():
        record = engine.run(source, repeats=repeats)
    return summed_up(record, criterion, number=share.number, end_time=engine.clock.now)


def joined(replicas: Items[ReplicaRecord], *, is_cut: bool = False) -> FleetRecord:
    """The record of replicas that ran by themselves; all are paid for until the last has ended."""
    end_time = max(item.end_time for item in replicas)
    arrivals = [item.latencies.arrival for item in replicas if len(item.latencies)]
    return FleetRecord(
        tuple(replace(item, end_time=end_time) for item in sorted(replicas, key=lambda item: item.number)),
        sum(item.num_arrived for item in replicas),
        min(float(times.min()) for times in arrivals) if arrivals else 0.0,
        is_cut=is_cut,
    )


def _together(
    setup: Setup, size: int, criterion: Criterion | None, stop: Stop, hopeless: Hopeless | None
) -> FleetRecord:
    """Serve the trace with engines in one virtual time."""
    handover = _handover(setup, size)
    fleet = Fleet(
        setup.make_engine,
        setup.make_router(),
        setup.surroundings,
        num_replicas=size * (setup.ratio.prefill if setup.ratio else 1),
        staleness=setup.staleness,
        autoscaler=setup.autoscaler,
        handover=handover,
        is_over=None if hopeless is None else hopeless.note,
        is_open=setup.is_open,
        repeats=setup.plan.system.is_built_in,
    )
    with stopping(stop, fleet.stop), rare_collections():
        fleet.run(setup.trace.arrivals())
    end_time = max(replica.engine.clock.now for replica in fleet.replicas)
    replicas, ended = [], fleet.replicas
    while ended:
        replicas.append(record_of(ended.pop(0), criterion, end_time))
    clients = [item for item in replicas if item.role is not Role.DECODE]
    return FleetRecord(
        tuple(replicas),
        sum(item.num_arrived for item in clients),
        setup.trace.requests[0].arrival_time,
        moved_bytes=handover.transfers.num_bytes if handover else 0,
        moved_seconds=handover.transfers.seconds if handover else 0.0,
        is_cut=fleet.stopping,
    )


def _handover(setup: Setup, size: int) -> Handover | None:
    if setup.ratio is None:
        return None
    assert setup.link is not None, "prefill and decode apart need a link"
    token_bytes = setup.plan.kv_bytes // setup.plan.kv_slots
    transfers = Transfers(setup.link, token_bytes)
    return Handover(size * setup.ratio.decode, LeastOutstanding(setup.surroundings), transfers)
