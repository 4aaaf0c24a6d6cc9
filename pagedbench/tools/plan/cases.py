"""The cases of a command: fleets x routers x staleness, each for one seed, all checked."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Protocol

from pagedbench.config import ConfigError
from pagedbench.fleet.autoscaling import autoscaler_of
from pagedbench.fleet.replica import Role
from pagedbench.metrics.formulas import parse_slo
from pagedbench.runs.criterion import Criterion
from pagedbench.tools.plan.options import parse_link, parse_ratios, parse_seconds, parse_sizes, parse_times
from pagedbench.tools.plan.simulation import Setup
from pagedbench.tools.plan.tasks import Case

if TYPE_CHECKING:
    from pagedbench.fleet.autoscaling import Autoscaler
    from pagedbench.runs.jobs import Job
    from pagedbench.tools.plan.options import Sizes


class Asked(Protocol):
    """The options of `plan` other than those of a run."""

    @property
    def replicas(self) -> str | None: ...
    @property
    def routers(self) -> tuple[str, ...]: ...
    @property
    def staleness(self) -> str: ...
    @property
    def attainment(self) -> float | None: ...
    @property
    def disaggregate(self) -> str | None: ...
    @property
    def link(self) -> tuple[str, str]: ...
    @property
    def autoscale(self) -> str | None: ...
    @property
    def scaling(self) -> tuple[str, str]: ...


def cases_of(jobs: list[Job], asked: Asked) -> list[Case]:
    """Every case, in order.

    Raises:
        ConfigError: an option cannot be read, has no effect, or contradicts another.
    """
    sizes = parse_sizes(asked.replicas)
    criterion = _criterion(jobs[0].plan.config.slo, asked.attainment)
    ratios, scaler = parse_ratios(asked.disaggregate), _scaler(asked, sizes)
    link = parse_link(*asked.link)
    if criterion is None and sizes.fixed is None and scaler is None:
        raise ConfigError(
            "give --slo, the objective, or --replicas with the sizes to simulate, such as 4,8"
        )
    if len(set(asked.routers)) < len(asked.routers):
        raise ConfigError("--router names a router twice")
    delays = parse_times("--staleness", asked.staleness)
    fixed = (sizes.least,) if scaler is not None else sizes.fixed
    cases = []
    for job, ratio, router in itertools.product(jobs, ratios, asked.routers):
        is_blind = Setup(job.plan, job.trace, router).make_router().is_blind
        if is_blind and any(delays) and len(asked.routers) == 1:
            raise ConfigError(f"--staleness has no effect on {router}, which does not ask replicas")
        for delay in (0.0,) if is_blind else delays:
            setup = Setup(job.plan, job.trace, router, delay, ratio, link if ratio else None, scaler)
            if ratio is not None:
                _check_apart(setup)
            cases.append(Case(setup, criterion, fixed, sizes.least, sizes.most))
    return cases


def _criterion(slo: str | None, attainment: float | None) -> Criterion | None:
    if attainment is not None and slo is None:
        raise ConfigError("--attainment needs --slo, the bounds that this share of requests must meet")
    if attainment is not None and not 0 < attainment <= 1:
        raise ConfigError(f"--attainment must be above 0 and at most 1, not {attainment:g}")
    return None if slo is None else Criterion(parse_slo(slo), attainment)


def _scaler(asked: Asked, sizes: Sizes) -> Autoscaler | None:
    if asked.autoscale is None:
        return None
    if asked.disaggregate is not None:
        raise ConfigError("--autoscale and --disaggregate contradict each other: give one of the two")
    if sizes.fixed is not None:
        raise ConfigError("--autoscale needs bounds, as in --replicas 2:8, not fixed sizes")
    interval, cold_start = (
        parse_seconds(option, text)
        for option, text in zip(("--autoscale-interval", "--cold-start"), asked.scaling, strict=True)
    )
    if not interval:
        raise ConfigError("--autoscale-interval must be above 0")
    return autoscaler_of(asked.autoscale, sizes.least, sizes.most, interval, cold_start)


def _check_apart(setup: Setup) -> None:
    """Refuse requests whose prefill and decode cannot run on different replicas."""
    if any(request.sampling.width > 1 for request in setup.trace.requests):
        raise ConfigError(
            "--disaggregate moves the keys and values of one sequence: leave out --n and --beam-width"
        )
    setup.make_engine(Role.PREFILL)
