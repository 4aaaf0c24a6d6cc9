"""`compare --target`: live servers and our systems on the same requests, interleaved, in one table."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import typer

from pagedbench.clock import utc_text
from pagedbench.config import ConfigError
from pagedbench.loadgen.generate import check_generator
from pagedbench.remote.calls import check_sendable
from pagedbench.remote.jobs import check_bounds, check_workload, prepare_for_servers, server_plan
from pagedbench.remote.options import AUTO, ServerOptions, check_flags, default_workers
from pagedbench.remote.probing import find_server
from pagedbench.remote.runner import ServerRunner
from pagedbench.runs.configs import requested, run_configs
from pagedbench.runs.file_names import dated_folder
from pagedbench.runs.jobs import Job, check_vocabulary, job_names, prepare
from pagedbench.show.session import Session, print_plans
from pagedbench.systems import canonical_name
from pagedbench.tools.compare.one_table import run_in_one_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Items

    from pagedbench.loadgen.server import Server
    from pagedbench.runs.options import CommandOptions


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets of `--target`: labels and base URLs of servers, and our systems."""

    servers: dict[str, str]
    systems: tuple[str, ...]


def parse_targets(text: str) -> Targets:
    """Read the targets in a comma-separated list: `name=URL`, or the name of a system.

    Raises:
        ConfigError: a name is empty, given twice, or not that of a system; or there are fewer than two.
    """
    servers: dict[str, str] = {}
    systems: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        name, is_pair, value = part.partition("=")
        if not is_pair or "://" not in value:
            systems.append(canonical_name(part))
        elif not name or name in servers:
            raise ConfigError(
                f"--target names each server once, as in mine=http://localhost:8000: {part!r}"
            )
        else:
            servers[name] = value
    names = [*servers, *systems]
    if len(set(names)) < len(names):
        raise ConfigError(f"--target gives two targets the same name: {', '.join(names)}")
    if len(names) < 2 or not servers:
        raise ConfigError(
            "--target compares a server with others: name two targets, such as mine=http://localhost:8000,"
            "another=http://localhost:8001, or a server and a system"
        )
    return Targets(servers, tuple(systems))


def compare_targets(options: CommandOptions, text: str, repeats: int) -> None:
    """Send the same requests to every target, in turn, and show them in one table.

    Raises:
        ConfigError: an option does not apply here, or a server cannot be used.
        typer.Exit: with the exit code, after everything is shown.
    """
    check_generator()
    targets = parse_targets(text)
    if "system" in options.flags:
        raise ConfigError("--system and --target both name systems: give only --target")
    if repeats < 1:
        raise ConfigError(f"--repeats must be at least 1, not {repeats}")
    server_options = {
        name: ServerOptions(url, num_workers=default_workers()) for name, url in targets.servers.items()
    }
    servers = [find_server(url, AUTO, None, name) for name, url in targets.servers.items()]
    jobs = _in_turn(_jobs(options, targets, servers), repeats)
    if options.dry_run:
        print_plans(jobs)
        return
    folder = options.output or dated_folder("compare", utc_text())
    jobs = [replace(job, folder=folder / job.name) for job in jobs]
    command = shlex.join(["pagedbench", *sys.argv[1:]])
    runners = {
        name: ServerRunner(own, command, save_outputs=options.save_outputs)
        for name, own in server_options.items()
    }
    raise typer.Exit(run_in_one_table(Session(options, runners), jobs, repeats))


def _jobs(options: CommandOptions, targets: Targets, servers: list[Server]) -> list[Job]:
    """A job for every target and workload: the requests of the systems, which the servers get too."""
    is_model_given = "model" in requested(options)
    options = _within_limits(options, servers)
    if not targets.systems:
        check_flags(options)
        configs = run_configs(options)
        check_workload(configs, options)
        return prepare_for_servers(configs, servers, options, is_model_given=is_model_given)
    flags = {**options.flags, "system": targets.systems}
    own = prepare(run_configs(replace(options, flags=flags)), options)
    for job in own:
        check_sendable(job.trace)
        check_bounds(job.plan.config)
    first = own[0].plan.system.name
    jobs, plans = list(own), []
    for job in (job for job in own if job.plan.system.name == first):
        for server in servers:
            plan = server_plan(job.plan.config, server, is_model_given=is_model_given)
            check_vocabulary(plan, job.trace)
            named = replace(job.plan.config, system=server.label, model=plan.config.model)
            plans.append((replace(plan, config=named), job.trace))
    names = job_names([plan.config for plan, _ in plans], *map(list, zip(*plans, strict=True)))
    jobs += [Job(plan, trace, name, None) for (plan, trace), name in zip(plans, names, strict=True)]
    return jobs


def _within_limits(options: CommandOptions, servers: Items[Server]) -> CommandOptions:
    """The options with the smallest limit of all servers, unless one was asked for."""
    limits = [server.max_model_len for server in servers if server.max_model_len is not None]
    if not limits or min(limits) >= 2048 or "max_model_len" in requested(options):
        return options
    return replace(options, flags={**options.flags, "max_model_len": (min(limits),)})


def _in_turn(jobs: Items[Job], repeats: int) -> list[Job]:
    """All jobs, then all in reverse, and so on; repeats have a number at the end of their names."""

    def turns() -> Iterator[Job]:
        for turn in range(repeats):
            for job in jobs if turn % 2 == 0 else reversed(jobs):
                yield replace(job, name=f"{job.name}~{turn + 1}") if turn else job

    return list(turns())
