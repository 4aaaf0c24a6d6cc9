"""`pagedbench plan`: how many replicas of what meet an objective, by simulating them behind a router."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.exit_codes import CRASHED, INTERRUPTED, INVALID
from pagedbench.runs.interrupts import Interrupts
from pagedbench.runs.options import CommandOptions, takes_run_options
from pagedbench.runs.workers import (
    ExecutorOption,
    RayAddress,
    checked_workers,
    connected,
)
from pagedbench.tools.plan.parameters import (
    Attainment,
    Autoscale,
    AutoscaleInterval,
    ColdStart,
    Disaggregate,
    Jobs,
    Price,
    Replicas,
    Router,
    Seeds,
    Staleness,
    TransferBandwidth,
    TransferLatency,
)

if TYPE_CHECKING:
    from pagedbench.config import RunConfig
    from pagedbench.runs.workers import Workers
    from pagedbench.tools.plan.rows import Row
    from pagedbench.tools.plan.tasks import Case

SEARCH_DURATION = 600.0
"""Seconds of arrivals for each fleet of a search."""


@takes_run_options
def plan(
    options: CommandOptions,
    *,
    replicas: Replicas = None,
    router: Router = "round-robin",
    staleness: Staleness = "0",
    attainment: Attainment = None,
    seeds: Seeds = 1,
    disaggregate: Disaggregate = None,
    transfer_bandwidth: TransferBandwidth = "25GiB",
    transfer_latency: TransferLatency = "1ms",
    autoscale: Autoscale = None,
    autoscale_interval: AutoscaleInterval = "10s",
    cold_start: ColdStart = "60s",
    price: Price = None,
    jobs: Jobs = None,
    executor: ExecutorOption = "local",
    ray_address: RayAddress = None,
) -> None:
    """Find how many replicas meet --slo, or simulate fleets of given sizes (--replicas 4,8).

    A replica is one engine with its own memory and scheduler, as in `run`; all share one virtual time, and
    a router sends each arriving request to one of them. The smallest number is found for every combination
    of --device, --tensor-parallel-size, --router and so on, and for every seed.
    """
    asked = _Asked(
        replicas=replicas,
        routers=tuple(word.strip() for word in router.split(",")),
        staleness=staleness,
        attainment=attainment,
        seeds=seeds,
        disaggregate=disaggregate,
        link=(transfer_bandwidth, transfer_latency),
        autoscale=autoscale,
        scaling=(autoscale_interval, cold_start),
    )
    cases = _cases(options, asked)
    from pagedbench.tools.plan.options import parse_prices

    prices = parse_prices(price, list(dict.fromkeys(case.setup.plan.config.device for case in cases)))
    workers = checked_workers(executor, ray_address, jobs, is_simulated=True)
    if options.dry_run:
        print(f"{len(cases)} {'searches' if cases[0].sizes is None else 'fleets or lists of sizes'}")
        return
    with connected(workers):
        rows, failures, is_interrupted = _run(cases, workers, options)
    for failure in failures:
        print(f"Error: {failure}", file=sys.stderr)
    if rows:
        _deliver(rows, prices, options, is_searched=cases[0].sizes is None)
    is_invalid = options.strict and not all(row["valid"] for row in rows)
    raise typer.Exit(
        INTERRUPTED if is_interrupted else CRASHED if failures else INVALID if is_invalid else 0
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options of `plan` other than those of a run."""

    replicas: str | None
    routers: tuple[str, ...]
    staleness: str
    attainment: float | None
    seeds: int
    disaggregate: str | None
    link: tuple[str, str]
    autoscale: str | None
    scaling: tuple[str, str]


def _cases(options: CommandOptions, asked: _Asked) -> list[Case]:
    """Every fleet, for every seed; everything is checked before anything runs."""
    from pagedbench.runs.configs import run_configs
    from pagedbench.runs.jobs import prepare
    from pagedbench.tools.plan.cases import cases_of

    _refuse(options)
    configs = run_configs(options)
    if not all(config.is_simulated for config in configs):
        raise ConfigError("plan simulates: give a --device such as sim:h100, or sim:FILE of `calibrate`")
    if asked.seeds > 1 and len({config.seed for config in configs}) > 1:
        raise ConfigError("--seed lists seeds already: give --seeds, or the list")
    configs = [
        replace(config, seed=config.seed + offset) for config in configs for offset in range(asked.seeds)
    ]
    if asked.replicas is None or (":" in asked.replicas and asked.autoscale is None):
        configs = [_with_amount(config) for config in configs]
    made = prepare(configs, replace(options, dry_run=False))
    return cases_of(made, asked)


def _with_amount(config: RunConfig) -> RunConfig:
    """Set how long requests arrive in a search, if the user did not."""
    is_said = config.num_requests is not None or config.duration is not None
    is_known = config.arrival in ("trace", "closed") or config.rate == math.inf
    return config if is_said or is_known else replace(config, duration=SEARCH_DURATION)


def _refuse(options: CommandOptions) -> None:
    if options.require_slo is not None:
        raise ConfigError("--require-slo has no effect on plan: --attainment is such a share")
    for is_given, name in (
        (options.save_outputs, "--save-outputs"),
        (options.save_events, "--save-events"),
        ("label" in options.flags, "--label"),
    ):
        if is_given:
            raise ConfigError(f"{name} has no effect on plan: runs of single replicas are not saved")


def _run(cases: list[Case], workers: Workers, options: CommandOptions) -> tuple[list[Row], list[str], bool]:
    """The rows in the order asked for, the failures, and whether it was interrupted."""
    from pagedbench.runs.parallel import Failure, new_stop
    from pagedbench.show.cells import CellProgress
    from pagedbench.tools.plan.tasks import outcomes

    stop, found, failures = new_stop(), dict[int, list["Row"]](), list[str]()
    with Interrupts(stop.set) as interrupts, CellProgress(len(cases), options.progress) as progress:
        for index, outcome in outcomes(cases, workers, stop):
            name = cases[index].name
            if isinstance(outcome, Failure):
                failures.append(f"{name}: {outcome.reason}")
                progress.ended(name, "failed")
            elif outcome:
                found[index] = outcome
                progress.ended(name, f"{len(outcome)} sizes")
    return [row for index in sorted(found) for row in found[index]], failures, interrupts.received


def _deliver(
    rows: list[Row], prices: dict[str, float], options: CommandOptions, *, is_searched: bool
) -> None:
    from pagedbench.clock import utc_text
    from pagedbench.runs.file_names import dated_folder
    from pagedbench.runs.files import csv_text, json_text, write_files
    from pagedbench.runs.machine import provenance
    from pagedbench.runs.summary import SCHEMA_VERSION
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.show.drawing import can_draw, image
    from pagedbench.tools.plan.report import chart_of, document, print_plan
    from pagedbench.tools.plan.rows import answers, with_costs

    fleets = with_costs(rows, prices)
    found = answers(fleets) if is_searched else []
    if options.format == "rich":
        print_plan(stdout_console(COMPARE_WIDTH), found, fleets)
    else:
        sys.stdout.write(document(found, fleets, options.format))
    details = {"schema_version": SCHEMA_VERSION, "ended": utc_text(), **provenance()}
    contents: dict[str, str | bytes] = {"fleets.csv": csv_text(fleets[0], fleets)}
    if found:
        contents["plan.csv"] = csv_text(found[0], found)
    contents["plan.json"] = json_text({**details, "answers": found, "fleets": fleets})
    if can_draw() and len({row["replicas"] for row in fleets if not row["is_cut"]}) > 1:
        contents |= {f"plan.{kind}": image(chart_of(fleets), kind) for kind in ("png", "svg")}
    folder = options.output or Path(dated_folder("plan", utc_text()))
    placed = write_files(contents, folder, force=options.force)
    print(f"Saved to {placed}", file=sys.stdout if options.format == "rich" else sys.stderr)
