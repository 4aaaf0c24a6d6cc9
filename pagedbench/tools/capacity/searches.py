"""The searches that a command asks for; everything is checked before anything runs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.remote.options import check_flags

if TYPE_CHECKING:
    from pagedbench.config import RunConfig
    from pagedbench.remote.options import ServerOptions
    from pagedbench.runs.criterion import Criterion
    from pagedbench.runs.jobs import Job
    from pagedbench.runs.options import CommandOptions
    from pagedbench.tools.capacity.probe import Goal, Search

SIMULATED_DURATION, REAL_DURATION = 2400.0, 120.0
"""Seconds of arrivals in each run. Runs of twice 2400 s are longer than the paper's hour."""

COMPARED_LENGTH = 2
"""Runs longer by this factor show whether the result depends on their length."""


def searches_of(
    options: CommandOptions,
    find: str,
    criteria: tuple[Criterion, ...],
    tolerance: float,
    server: ServerOptions | None = None,
) -> list[Search]:
    """A search for each run that the options name.

    Raises:
        ConfigError: an option is impossible, or would have no effect.
    """
    from pagedbench.runs.configs import every_system, run_configs
    from pagedbench.runs.jobs import prepare
    from pagedbench.tools.capacity.probe import Goal, Search
    from pagedbench.workload.dataset import load_dataset

    goal = _checked_goal(options, find, tolerance, is_server=server is not None)
    own = {} if server is not None else {"default_systems": every_system(options)}
    asked = run_configs(options, **own)
    configs = [_with_amount(config) for config in asked]
    made = prepare(configs, options) if server is None else _prepared(configs, server, options)
    if options.dry_run:
        from pagedbench.show.session import print_plans

        print_plans(made)
    datasets, searches = {}, []
    for before, config, job in zip(asked, configs, made, strict=True):
        source = (config.trace, config.tokenizer or job.plan.tokenizer)
        if source not in datasets:
            datasets[source] = load_dataset(*source, chat=config.chat)
        search = Search(
            plan=job.plan,
            dataset=datasets[source],
            criteria=criteria,
            tolerance=tolerance,
            goal=goal,
            unit_rate=_unit_rate(job) if goal is Goal.RATE else 1.0,
            may_exceed=config.is_simulated and config.kv_slots is None and config.kv_memory is None,
            batch_size=config.batch_size,
            compared_length=None if config == before else COMPARED_LENGTH,
            server=server,
        )
        searches.append(search)
    return searches


def _checked_goal(options: CommandOptions, find: str, tolerance: float, *, is_server: bool) -> Goal:
    """What is searched for.

    Raises:
        ConfigError: an option is impossible, or would have no effect.
    """
    from pagedbench.tools.capacity.probe import Goal

    if options.require_slo is not None:
        raise ConfigError("--require-slo has no effect on capacity: its --attainment is such a share")
    if not 0 < tolerance <= 1:
        raise ConfigError(f"--tolerance must be above 0 and at most 1, not {tolerance:g}")
    if find not in list(Goal):
        raise ConfigError(f"--find is one of {', '.join(Goal)}, not {find!r}")
    goal = Goal(find)
    if goal is Goal.RATE and len(options.flags.get("rate", ())) > 1:
        raise ConfigError("capacity finds the rate itself: give --rate one value, which is tried first")
    for is_given, name in (
        (options.save_outputs, "--save-outputs"),
        (options.save_events, "--save-events"),
        ("label" in options.flags, "--label"),
    ):
        if is_given:
            raise ConfigError(f"{name} has no effect on capacity: its runs are not saved")
    if is_server and goal is not Goal.RATE:
        raise ConfigError("--find kv-memory has no effect on a server, whose pool is its own")
    return goal


def _prepared(configs: list[RunConfig], server: ServerOptions, options: CommandOptions) -> list[Job]:
    """The jobs of searches against a server, which is asked about itself."""
    from pagedbench.remote.jobs import check_workload, prepare_for_servers
    from pagedbench.remote.probing import find_server
    from pagedbench.runs.configs import requested

    check_flags(options)
    check_workload(configs, options)
    found = find_server(server.base_url, server.api, server.served_model, None)
    return prepare_for_servers(configs, [found], options, is_model_given="model" in requested(options))


def _with_amount(config: RunConfig) -> RunConfig:
    """Set the length of each run if the user did not; a trace's own times are replayed to their end."""
    if config.rate == math.inf:
        raise ConfigError("--rate inf has no meaning for capacity: give a finite rate")
    if config.arrival == "closed":
        raise ConfigError(
            "--arrival closed has no meaning for capacity, which looks for a rate: a closed loop has none"
        )
    if config.num_requests is not None or config.duration is not None or config.arrival == "trace":
        return config
    return replace(config, duration=SIMULATED_DURATION if config.is_simulated else REAL_DURATION)


def _unit_rate(job: Job) -> float:
    """Requests per second according to the trace's own times, if they are replayed."""
    config = job.plan.config
    if config.arrival != "trace":
        return 1.0
    rate = job.trace.realised_rate * config.time_scale
    if rate == math.inf:
        raise ConfigError(
            f"all requests of {job.trace.name} arrive at once, so no rate can be found: choose another "
            "--arrival"
        )
    return rate
