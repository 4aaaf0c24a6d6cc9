"""`pagedbench capacity`: the highest rate or smallest KV pool with which a system meets a latency bound."""

from __future__ import annotations

import math
import sys
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
)
from pagedbench.runs.exit_codes import CRASHED, INTERRUPTED, INVALID
from pagedbench.runs.interrupts import Interrupts
from pagedbench.runs.options import CommandOptions, takes_run_options
from pagedbench.runs.workers import ExecutorOption, RayAddress, checked_workers, connected

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.runs.criterion import Criterion
    from pagedbench.runs.kept import Kept
    from pagedbench.runs.workers import Workers
    from pagedbench.tools.capacity.probe import Search
    from pagedbench.tools.capacity.report import Row

DEFAULT_BOUND = "0.5"

FindOption = Annotated[
    str,
    typer.Option(
        help="rate: the highest rate that meets the bound; kv-memory: the smallest KV pool that meets it "
        "at --rate, or with --arrival trace.",
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
    options: CommandOptions,
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
        float, typer.Option(help="Relative width at which the search stops.", rich_help_panel="Search")
    ] = 0.02,
    jobs: Annotated[
        int | None,
        typer.Option(help="Processes \\[one per core; 1 on a real device].", rich_help_panel="Search"),
    ] = None,
    executor: ExecutorOption = "local",
    ray_address: RayAddress = None,
    base_url: BaseUrl = None,
    api: ApiOption = None,
    served_model: ServedModel = None,
    timeout: Timeout = None,
    num_workers: NumWorkers = None,
) -> None:
    """Find the highest rate or the smallest KV pool with which a system meets a latency bound, and why.

    Every try is a whole run. A higher rate shortens the same gaps between arrivals, or between a trace's
    own times; --rate or --time-scale is tried first. Pools go up to --kv-slots or --kv-memory; without
    them, the report says how much memory a simulated device lacks. With --base-url, a live server is
    searched for its rate; each run begins when the server is idle.

    An interrupted search resumes: with the same --output, complete searches are kept.
    """
    from pagedbench.runs.kept import resumable
    from pagedbench.tools.capacity.searches import searches_of

    others = {"api": api, "served_model": served_model, "timeout": timeout, "num_workers": num_workers}
    server = asked_server(base_url, others)
    is_new, options = options.force, resumable(options, "capacity")
    searches = searches_of(options, find, _criteria(options, bound, attainment), tolerance, server)
    is_simulated = all(search.plan.config.is_simulated for search in searches)
    workers = checked_workers(executor, ray_address, jobs, is_simulated=is_simulated)
    if options.dry_run:
        return
    raise typer.Exit(_run_and_deliver(searches, workers, options, is_new=is_new))


def _run_and_deliver(
    searches: list[Search], workers: Workers, options: CommandOptions, *, is_new: bool
) -> int:
    """Everything after the checks. Returns the exit code."""
    from pagedbench.runs.kept import kept_by, kept_in

    assert options.output is not None, "without a folder nothing is run"
    configs = [search.plan.config for search in searches]
    opened = kept_in(
        options.output, "capacity", searches, configs, lambda search: kept_by(*search.facts), is_new=is_new
    )
    with connected(workers), opened as kept:
        failures, is_interrupted = _run(searches, kept, workers, options)
        rows = [row for number in sorted(kept.outcomes) for row in kept.outcomes[number]]
        if rows:
            _show(rows, options)
            _save(rows, options.output, options.format)
    for failure in failures:
        print(f"Error: {failure}", file=sys.stderr)
    is_invalid = options.strict and not all(row["valid"] for row in rows)
    return INTERRUPTED if is_interrupted else CRASHED if failures else INVALID if is_invalid else 0


def _show(rows: list[Row], options: CommandOptions) -> None:
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.tools.capacity.report import capacity_document, print_capacities

    if options.format == "rich":
        print_capacities(stdout_console(COMPARE_WIDTH), rows)
    else:
        sys.stdout.write(capacity_document(rows, options.format))


def _criteria(
    options: CommandOptions, bound: str | None, attainment: float | None
) -> tuple[Criterion, ...]:
    from pagedbench.metrics.formulas import Slo, parse_slo
    from pagedbench.runs.criterion import NORMALIZED, Criterion

    slo = options.flags.get("slo")
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
            raise ConfigError(f"--bound takes seconds per token, such as 0.25,0.5, not {word!r}")
    return tuple(Criterion(Slo(((NORMALIZED, limit),)), attainment) for limit in dict.fromkeys(limits))


def _run(
    searches: list[Search], kept: Kept, workers: Workers, options: CommandOptions
) -> tuple[list[str], bool]:
    """Search, and keep the rows. Returns the failures, and whether it was interrupted."""
    from pagedbench.runs.parallel import Failure, new_stop
    from pagedbench.show.cells import CellProgress
    from pagedbench.tools.capacity.rows import capacity_rows
    from pagedbench.tools.capacity.search import search_capacity

    failures, stop, done = [], new_stop(), len(kept.outcomes)
    number = len(searches)
    with (
        Interrupts(stop.set) as interrupts,
        CellProgress(number, options.progress, done=done) as progress,
    ):
        for search, rows in kept.compute(search_capacity, workers, stop, capacity_rows):
            config = search.plan.config
            name = f"{search.plan.system.name} {config.trace} s{config.seed}"
            if isinstance(rows, Failure):
                failures.append(f"{name}: {rows.reason}")
                progress.ended(name, "failed")
            elif rows is not None:
                progress.ended(name, f"{_answers(rows)}, {rows[0]['runs']} runs")
    return failures, interrupts.received


def _answers(rows: list[Row]) -> str:
    """The answers, in a few words."""
    if rows[0]["capacity"] is not None:
        return ", ".join(f"{row['capacity']:.4g} requests/s" for row in rows)
    sizes = (row["kv_memory_gib"] for row in rows)
    return ", ".join("no pool suffices" if size is None else f"{size:.4g} GiB" for size in sizes)


def _save(rows: list[Row], folder: Path, format: str) -> None:
    from pagedbench.clock import utc_text
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
    placed = write_files(texts, folder, force=True)
    print(f"Saved to {placed}", file=sys.stdout if format == "rich" else sys.stderr)
