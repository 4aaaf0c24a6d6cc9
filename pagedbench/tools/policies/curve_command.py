"""`pagedbench policies --curve`: checks the options, measures every point, and delivers the curve."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.runs.exit_codes import CRASHED, INTERRUPTED
from pagedbench.runs.interrupts import Interrupts
from pagedbench.runs.workers import connected

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pagedbench.runs.kept import Kept
    from pagedbench.runs.options import CommandOptions
    from pagedbench.runs.workers import Workers
    from pagedbench.tools.policies.curve import Point, Row

SIZES = ("kv_slots", "kv_memory")
USUAL = ("lru", "belady")


def run_curve(options: CommandOptions, chosen: Callable[..., Workers], folder: Path) -> int:
    """Do what `--curve` asks for. Returns the exit code.

    Args:
        chosen: makes the workers; its argument is whether the device `is_simulated`.

    Raises:
        ConfigError: an option has no effect, or contradicts the curve.
    """
    from pagedbench.runs.kept import kept_by, kept_in, resumable
    from pagedbench.tools.policies.curve import Whole

    if options.save_outputs or options.save_events:
        raise ConfigError("--save-outputs and --save-events have no effect on --curve: no run is saved")
    is_new, options = options.force, resumable(replace(options, output=folder), "policies")
    points = _points(options, folder)
    workers = chosen(is_simulated=points[0].config.is_simulated)
    if options.dry_run:
        print(f"{len(points)} points")
        return 0
    whole = Whole.of(points[0])
    configs = [point.config for point in points]
    opened = kept_in(
        folder, "policies", points, configs, lambda point: kept_by(*point.facts), is_new=is_new
    )
    with connected(workers), opened as kept:
        failures, is_interrupted = _measure(points, kept, workers, options.progress)
        for failure in failures:
            print(f"Error: {failure}", file=sys.stderr)
        rows = [kept.outcomes[number] for number in sorted(kept.outcomes)]
        if rows:
            _deliver(rows + whole.at(points), whole.rows(), options, folder)
    return INTERRUPTED if is_interrupted else CRASHED if failures else 0


def _points(options: CommandOptions, folder: Path) -> list[Point]:
    from pagedbench.runs.configs import requested, run_configs
    from pagedbench.runs.jobs import prepare
    from pagedbench.tools.policies.curve import points_of

    asked = requested(options)
    if asked.get("prefix_caching", (True,)) != (True,):
        raise ConfigError("--curve is about the prefix cache: leave out --no-prefix-caching")
    flags = {**options.flags, "prefix_caching": (True,)}
    if "eviction" not in asked:
        flags["eviction"] = USUAL
    configs = run_configs(replace(options, flags=flags))
    varied = [replace(item, kv_slots=None, kv_memory=None, eviction="lru") for item in configs]
    if any(item != varied[0] for item in varied):
        raise ConfigError(
            "--curve takes one workload: only --eviction, --kv-memory and --kv-slots list values"
        )
    if not varied[0].is_simulated and "eviction" not in asked:
        configs = [item for item in configs if item.eviction != "belady"]
    made = prepare(configs, replace(options, output=folder))
    return points_of(made, sizes_are_given=any(name in asked for name in SIZES))


def _measure(points: list[Point], kept: Kept, workers: Workers, mode: str) -> tuple[list[str], bool]:
    """Measure, and keep the rows. Returns the failures, and whether it was interrupted."""
    from pagedbench.runs.parallel import Failure, new_stop
    from pagedbench.show.cells import CellProgress
    from pagedbench.tools.policies.curve import measure

    stop, failures, number = new_stop(), list[str](), len(points)
    with (
        Interrupts(stop.set) as interrupts,
        CellProgress(number, mode, done=len(kept.outcomes)) as progress,
    ):
        for point, outcome in kept.compute(measure, workers, stop):
            if isinstance(outcome, Failure):
                failures.append(f"{point.name}: {outcome.reason}")
            if outcome is not None:
                progress.ended(point.name, "failed" if isinstance(outcome, Failure) else "done")
    return failures, interrupts.received


def _deliver(rows: list[Row], lru: list[Row], options: CommandOptions, folder: Path) -> None:
    from pagedbench.runs.files import csv_text, json_text, write_file
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.show.drawing import can_draw, image
    from pagedbench.show.table import markdown_table
    from pagedbench.tools.policies.curve_report import curve_chart, curve_table, print_curve

    table = csv_text(rows[0], rows)
    if options.format == "rich":
        print_curve(stdout_console(COMPARE_WIDTH), rows)
    else:
        documents = {"csv": table, "json": json_text(rows), "md": markdown_table(curve_table(rows))}
        sys.stdout.write(documents[options.format])
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "curve.csv", table.encode())
    write_file(folder / "curve-lru.csv", csv_text(lru[0], lru).encode())
    if can_draw():
        for kind in ("png", "svg"):
            write_file(folder / f"curve.{kind}", image(curve_chart(rows, lru), kind))
    print(f"Saved to {folder}", file=sys.stdout if options.format == "rich" else sys.stderr)
