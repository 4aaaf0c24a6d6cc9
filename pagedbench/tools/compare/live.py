"""`compare` of programs or systems that run now: interleaved, judged, and confirmed before it fails."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pagedbench.config import ConfigError
from pagedbench.tools.compare.live_verdict import FIRST, confirmed, judge_of

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.runs.jobs import Job
    from pagedbench.runs.options import CommandOptions
    from pagedbench.tools.compare.gate import Gate
    from pagedbench.tools.compare.rounds import Arm
    from pagedbench.tools.compare.saved_runs import Question

USUAL_REPEATS = 5
"""Runs of each side, unless asked otherwise; in virtual time one says it all."""


def compare_judged(
    given: CommandOptions, question: Question, command: str | None, repeats: int | None
) -> None:
    """Run the sides in turns, say what differs, and end.

    `command`: another pagedbench, which is the reference for this one; without it systems are compared,
    and the first one is the reference.

    Raises:
        ConfigError: an option makes no sense here, or a program cannot be started.
        ReportError: the reports cannot be written.
        typer.Exit: with 0, 1, 3, 5, 6 or 130, after all reports.
    """
    from pagedbench.runs.configs import run_configs
    from pagedbench.runs.jobs import prepare
    from pagedbench.systems import SYSTEMS
    from pagedbench.tools.compare.programs import known_program
    from pagedbench.tools.compare.rounds import Rounds
    from pagedbench.tools.compare.saved_runs import deliver, exit_code

    judge = judge_of(question)
    program = None if command is None else known_program(command, given)
    systems = tuple(SYSTEMS) if command is None else ("paged",)
    jobs = prepare(run_configs(given, default_systems=systems), given)
    repeats = _checked_repeats(repeats, jobs, judge.gate)
    arms = _systems(jobs, given) if program is None else _programs(program, jobs, given)
    if given.dry_run:
        from pagedbench.show.session import print_plans

        print_plans(jobs)
        return
    folder = given.output or _default_folder()
    _remove_old_reports(folder)
    rounds = Rounds(
        _workload_names(jobs, of_systems=command is None),
        repeats,
        folder,
        gated=judge.gate.metrics if judge.gate else (),
        across=judge.across,
        is_shown=given.progress != "none",
    )
    sides = rounds.make(FIRST, arms)
    comparison = judge.compare(sides)
    if judge.gate is not None:
        sides, comparison = confirmed(comparison, sides, rounds, arms, judge, given, folder)
    deliver(comparison, sides, replace(given, output=folder, force=True))
    raise typer.Exit(exit_code(comparison, given, sides))


def _checked_repeats(repeats: int | None, jobs: Items[Job], gate: Gate | None) -> int:
    """How many runs of each side; the usual number unless it was said."""
    is_virtual = all(job.plan.config.is_simulated for job in jobs)
    if repeats is None:
        return 1 if is_virtual else USUAL_REPEATS
    if repeats < 1:
        raise ConfigError(f"--repeats must be at least 1, not {repeats}")
    if repeats > 1 and is_virtual:
        raise ConfigError(
            "--repeats has no effect on a simulated device, where one pair of runs is exact: "
            "give several --seed instead"
        )
    if repeats == 1 and not is_virtual and gate is not None and not gate.takes_single_pairs:
        raise ConfigError(
            "--gate judges no single pair of measured runs: ask for --repeats 2 or more, "
            "or allow it with --gate-single-pair"
        )
    return repeats


def _programs(program: tuple[list[str], set[str]], jobs: Items[Job], given: CommandOptions) -> list[Arm]:
    from pagedbench.tools.compare.programs import Program, own_command

    words, known = program
    return [
        Program("reference", words, jobs, given, known),
        Program("candidate", own_command(), jobs, given),
    ]


def _systems(jobs: Items[Job], given: CommandOptions) -> list[Arm]:
    """One side a system. Runs of one seed come together, so that a model is loaded once for all of them."""
    from pagedbench.show.session import Session
    from pagedbench.tools.compare.rounds import System

    names = list(dict.fromkeys(job.plan.system.name for job in jobs))
    if len(names) < 2:
        raise ConfigError(
            "one system has nothing to be compared with: name two with --system, "
            "another pagedbench with --reference, or folders of saved runs"
        )
    session, of_system = Session(given), {name: _jobs_of(name, jobs) for name in names}
    if len({len(own) for own in of_system.values()}) > 1:
        raise ConfigError("--prefix-caching on,off is not for every system: judge one value at a time")
    return [System(name, session, own) for name, own in of_system.items()]


def _jobs_of(system: str, jobs: Items[Job]) -> list[Job]:
    return [job for job in jobs if job.plan.system.name == system]


def _default_folder() -> Path:
    from pagedbench.clock import utc_text
    from pagedbench.runs.file_names import compact_time

    stem = Path("results") / f"{compact_time(utc_text())}_compare"
    names = itertools.chain([stem], (stem.with_name(f"{stem.name}-{n}") for n in itertools.count(2)))
    return next(path for path in names if not path.exists())


def _remove_old_reports(folder: Path) -> None:
    """With --force: a verdict of before must not outlive runs that were never judged."""
    from pagedbench.runs.file_names import OURS

    for place in (folder, folder / FIRST):
        for name in OURS:
            (place / name).unlink(missing_ok=True)


def _workload_names(jobs: Items[Job], *, of_systems: bool) -> list[str]:
    """What tells the jobs of one side apart, for the folders of their runs."""
    system = jobs[0].plan.system.name
    names = []
    for number, job in enumerate(_jobs_of(system, jobs) if of_systems else jobs, start=1):
        name = f"workload{number}" if job.folder is None else job.folder.name
        names.append(name.removeprefix(f"{system}_") if of_systems else name)
    return names
