"""`pagedbench capacity`: the highest rate or least KV pool with which each system meets a latency bound."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.remote.options import (
    ApiOption,
    BaseUrl,
    NumWorkers,
    ServedModel,
    Timeout,
    asked_server,
    check_flags,
)
from pagedbench.runs.exit_codes import CRASHED, INTERRUPTED, INVALID
from pagedbench.runs.interrupts import Interrupts
from pagedbench.runs.options import CommandOptions, takes_run_options
from pagedbench.runs.workers import ExecutorOption, RayAddress, checked_workers, connected, in_workers

if TYPE_CHECKING:
    from pagedbench.config import RunConfig
    from pagedbench.remote.options import ServerOptions
    from pagedbench.runs.criterion import Criterion
    from pagedbench.runs.jobs import Job
    from pagedbench.runs.workers import Workers
    from pagedbench.tools.capacity.probe import Search
    from pagedbench.tools.capacity.report import Row

DEFAULT_BOUND = "0.5"
SIMULATED_DURATION, REAL_DURATION = 2400.0, 120.0
"""Seconds of arrivals of each run. Runs of twice 2400 s are longer than the paper's hour."""

COMPARED_LENGTH = 2
"""How many times as long the runs are that show whether the result depends on their length."""


FindOption = Annotated[
    str,
    typer.Option(
        help="rate: max rate meeting the bound; kv-memory: the least KV pool that meets it at --rate, "
        "or with --arrival trace.",
        rich_help_panel="Search",
    ),
]
BoundOption = Annotated[
    str | None,
    typer.Option(
        help="Bound on the mean normalized latency, in s/token; comma-separated \\[0.5].",
        rich_help_panel="Search",
    ),
]


@takes_run_options
def capacity(
    given: CommandOptions,
    *,
    find: FindOption = "rate",
    bound: BoundOption = None,
    attainment: Annotated[
        float | None,
        typer.Option(
            help="Share of requests (0-1) that must meet --slo \\[without: the means must].",
            rich_help_panel="Search",
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Relative width of the interval.", rich_help_panel="Search")
    ] = 0.02,
    jobs: Annotated[
        int | None,
        typer.Option(help="Processes \\[the cores; 1 on a real device].", rich_help_panel="Search"),
    ] = None,
    executor: ExecutorOption = "local",
    ray_address: RayAddress = None,
    base_url: BaseUrl = None,
    api: ApiOption = None,
    served_model: ServedModel = None,
    timeout: Timeout = None,
    num_workers: NumWorkers = None,
) -> None:
    """Find the highest rate, or the least KV pool, with which each system meets a latency bound; and why.

    Every try is a whole run. A higher rate speeds up the same gaps between arrivals, or a trace's own
    times; --rate or --time-scale is tried first. Pools go up to --kv-slots or --kv-memory; without them,
    the report says how much memory a simulated device lacks. With --base-url the rate of a live server is
    searched for, each run beginning when it is idle.
    """
    others = {"api": api, "served_model": served_model, "timeout": timeout, "num_workers": num_workers}
    server = asked_server(base_url, others)
    searches = _searches(given, find, _criteria(given, bound, attainment), tolerance, server)
    is_simulated = all(search.plan.config.is_simulated for search in searches)
    workers = checked_workers(executor, ray_address, jobs, is_simulated=is_simulated)
    if given.dry_run:
        return
    with connected(workers):
        rows, failures, is_interrupted = _run(searches, workers, given)
    if rows:
        _show(rows, given)
        _save(rows, given)
    for failure in failures:
        print(f"Error: {failure}", file=sys.stderr)
    code = CRASHED if failures else INVALID if given.strict and not all(row["valid"] for row in rows) else 0
    raise typer.Exit(INTERRUPTED if is_interrupted else code)


def _show(rows: list[Row], given: CommandOptions) -> None:
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.tools.capacity.report import capacity_document, print_capacities

    if given.format == "rich":
        print_capacities(stdout_console(COMPARE_WIDTH), rows)
    else:
        sys.stdout.write(capacity_document(rows, given.format))


def _criteria(given: CommandOptions, bound: str | None, attainment: float | None) -> tuple[Criterion, ...]:
    from pagedbench.metrics.formulas import Slo, parse_slo
    from pagedbench.runs.criterion import NORMALIZED, Criterion

    slo = given.flags.get("slo")
    if bound is not None and slo is not None:
        raise ConfigError("--bound and --slo both bound the latency: give one of the two")
    if attainment is not None and not 0 < attainment <= 1:
        raise ConfigError(f"--attainment must be above 0 and at most 1, not {attainment:g}")
    if slo is not None:
        try:
            return (Criterion(parse_slo(str(slo[0])), attainment),)
        except ValueError as error:
            raise ConfigError(f"--slo cannot be read: {error}") from None
    limits = []
    for word in (bound or DEFAULT_BOUND).split(","):
        try:
            limits.append(float(word.strip().removesuffix("s")))
        except ValueError:
            limits.append(math.nan)
        if not 0 < limits[-1] < math.inf:
            raise ConfigError(f"--bound takes seconds a token, such as 0.25,0.5, not {word!r}")
    return tuple(Criterion(Slo(((NORMALIZED, limit),)), attainment) for limit in dict.fromkeys(limits))


def _searches(
    given: CommandOptions,
    find: str,
    criteria: tuple[Criterion, ...],
    tolerance: float,
    server: ServerOptions | None = None,
) -> list[Search]:
    """The searches; everything is checked before anything runs."""
    from pagedbench.runs.configs import every_system, run_configs
    from pagedbench.runs.jobs import prepare
    from pagedbench.tools.capacity.probe import Search, Target
    from pagedbench.workload.dataset import load_dataset

    if given.require_slo is not None:
        raise ConfigError("--require-slo has no effect on capacity: its --attainment is such a share")
    if not 0 < tolerance <= 1:
        raise ConfigError(f"--tolerance must be above 0 and at most 1, not {tolerance:g}")
    if find not in list(Target):
        raise ConfigError(f"--find is one of {', '.join(Target)}, not {find!r}")
    target = Target(find)
    if target is Target.RATE and len(given.flags.get("rate", ())) > 1:
        raise ConfigError("capacity finds the rate itself: give --rate one value, which is tried first")
    for is_given, name in (
        (given.save_outputs, "--save-outputs"),
        (given.save_events, "--save-events"),
        ("label" in given.flags, "--label"),
    ):
        if is_given:
            raise ConfigError(f"{name} has no effect on capacity: its runs are not saved")
    if server is not None and target is not Target.RATE:
        raise ConfigError("--find kv-memory has no effect on a server, whose pool is its own")
    own = {} if server is not None else {"default_systems": every_system(given)}
    asked = run_configs(given, **own)
    configs = [_with_amount(config) for config in asked]
    made = prepare(configs, given) if server is None else _prepared(configs, server, given)
    if given.dry_run:
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
            target=target,
            unit_rate=_unit_rate(job) if target is Target.RATE else 1.0,
            may_exceed=config.is_simulated and config.kv_slots is None and config.kv_memory is None,
            batch_size=config.batch_size,
            compared_length=None if config == before else COMPARED_LENGTH,
            server=server,
        )
        searches.append(search)
    return searches


def _prepared(configs: list[RunConfig], server: ServerOptions, given: CommandOptions) -> list[Job]:
    """The jobs of searches against a server, which is asked what it is."""
    from pagedbench.remote.jobs import check_workload, prepare_for_servers
    from pagedbench.remote.probing import find_server
    from pagedbench.runs.configs import requested

    check_flags(given)
    check_workload(configs, given)
    found = find_server(server.base_url, server.api, server.served_model, None)
    return prepare_for_servers(configs, [found], given, is_model_given="model" in requested(given))


def _with_amount(config: RunConfig) -> RunConfig:
    """How long each run is, unless it was said; a trace's own times are replayed to their end."""
    if config.rate == math.inf:
        raise ConfigError("--rate inf has no meaning for capacity: give a rate that requests arrive at")
    if config.arrival == "closed":
        raise ConfigError(
            "--arrival closed has no meaning for capacity, which looks for a rate: a closed loop has none"
        )
    if config.num_requests is not None or config.duration is not None or config.arrival == "trace":
        return config
    return replace(config, duration=SIMULATED_DURATION if config.is_simulated else REAL_DURATION)


def _unit_rate(job: Job) -> float:
    """Requests per second of the trace's own times, where they are replayed."""
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


def _run(
    searches: list[Search], workers: Workers, given: CommandOptions
) -> tuple[list[Row], list[str], bool]:
    """The rows of finished searches in the order asked for, what failed, and whether it was interrupted."""
    from pagedbench.runs.parallel import Failure, new_stop
    from pagedbench.show.cells import CellProgress
    from pagedbench.tools.capacity.rows import capacity_rows
    from pagedbench.tools.capacity.search import search_capacity

    rows: dict[int, list[Row]] = {}
    failures, stop = [], new_stop()
    with Interrupts(stop.set) as interrupts, CellProgress(len(searches), given.progress) as progress:
        for search, found in in_workers(search_capacity, searches, workers, stop):
            config = search.plan.config
            name = f"{search.plan.system.name} {config.trace} s{config.seed}"
            if isinstance(found, Failure):
                failures.append(f"{name}: {found.reason}")
                progress.ended(name, "failed")
            elif found is not None:
                index = next(i for i, item in enumerate(searches) if item is search)
                rows[index] = capacity_rows(search, found)
                progress.ended(name, f"{_answers(rows[index])}, {len(found.probes)} runs")
    return [row for index in sorted(rows) for row in rows[index]], failures, interrupts.received


def _answers(rows: list[Row]) -> str:
    """What was found, in a few words."""
    if rows[0]["capacity"] is not None:
        return ", ".join(f"{row['capacity']:.4g} requests/s" for row in rows)
    sizes = (row["kv_memory_gib"] for row in rows)
    return ", ".join("no pool suffices" if size is None else f"{size:.4g} GiB" for size in sizes)


def _save(rows: list[Row], given: CommandOptions) -> None:
    from pagedbench.clock import utc_text
    from pagedbench.runs.file_names import compact_time
    from pagedbench.runs.files import json_text, write_files
    from pagedbench.runs.machine import provenance
    from pagedbench.runs.summary import SCHEMA_VERSION
    from pagedbench.tools.capacity.report import capacity_document

    document = {
        "schema_version": SCHEMA_VERSION,
        "ended": utc_text(),
        **provenance(),
        "capacities": rows,
    }
    texts = {"capacity.csv": capacity_document(rows, "csv"), "capacity.json": json_text(document)}
    folder = given.output or Path("results") / f"{compact_time(utc_text())}_capacity"
    placed = write_files(texts, folder, force=given.force)
    print(f"Saved to {placed}", file=sys.stdout if given.format == "rich" else sys.stderr)
