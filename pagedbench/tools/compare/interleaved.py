"""`compare` with new runs of systems or programs: interleaved, with a second round before a failure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from pagedbench.clock import utc_text
from pagedbench.config import DEFAULT_SYSTEM, ConfigError
from pagedbench.runs.configs import run_configs
from pagedbench.runs.file_names import OURS, dated_folder
from pagedbench.runs.jobs import prepare
from pagedbench.runs.numbers import counted
from pagedbench.show.session import Session, print_plans
from pagedbench.systems import COMPARED
from pagedbench.tools.compare import programs
from pagedbench.tools.compare.reports import deliver, exit_code, report_suspicion
from pagedbench.tools.compare.rounds import Rounds, System
from pagedbench.tools.compare.verdicts import Basis

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.runs.jobs import Job
    from pagedbench.runs.options import CommandOptions
    from pagedbench.tools.compare.comparison import Comparison
    from pagedbench.tools.compare.gate import Gate, GateResult
    from pagedbench.tools.compare.question import Question
    from pagedbench.tools.compare.rounds import Arm
    from pagedbench.tools.compare.verdicts import Finding

FIRST, FRESH = "first", "fresh"
"""The rounds, by the names of their folders."""

USUAL_REPEATS = 5
"""Default number of runs of each side on a real device; in virtual time one run is exact."""


def compare_interleaved(
    options: CommandOptions, question: Question, command: str | None, repeats: int | None
) -> None:
    """Interleave the runs of the sides, judge them, and write the reports.

    `command`: another pagedbench, which is the reference for this one; without it systems are compared,
    and the first one is the reference.

    Raises:
        ConfigError: an option does not apply here, or a program cannot be started.
        ReportError: the reports cannot be written.
        typer.Exit: with 0, 1, 3, 5, 6 or 130, after all reports.
    """
    program = None if command is None else programs.known_program(command, options)
    systems = COMPARED if program is None else (DEFAULT_SYSTEM,)
    jobs = prepare(run_configs(options, default_systems=systems), options)
    repeats = _checked_repeats(repeats, jobs, question.gate)
    arms = _systems(jobs, options) if program is None else _programs(program, jobs, options)
    if options.dry_run:
        print_plans(jobs)
        return
    folder = options.output or dated_folder("compare", utc_text())
    _remove_old_reports(folder)
    names = _workload_names(jobs, of_systems=program is None)
    rounds = Rounds(names, repeats, folder, question, is_shown=options.progress != "none")
    sides = rounds.make(FIRST, arms)
    comparison = question.compare(sides)
    if question.gate is not None and is_suspicion(comparison):
        report_suspicion(comparison, options, folder / FIRST)
        suspects = {result.finding.candidate for result in comparison.failures}
        sides = rounds.make(FRESH, [arms[0], *(arm for arm in arms[1:] if arm.label in suspects)])
        fresh = replace(question, gate=narrowed(question.gate, comparison)).compare(sides)
        comparison = concluded(comparison, fresh)
    deliver(comparison, sides, replace(options, output=folder, force=True))
    raise typer.Exit(exit_code(comparison, options, sides))


def _checked_repeats(repeats: int | None, jobs: Items[Job], gate: Gate | None) -> int:
    """The number of runs of each side."""
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
            "--gate does not judge a single pair of measured runs: give --repeats 2 or more, "
            "or allow it with --gate-single-pair"
        )
    return repeats


def _programs(program: tuple[list[str], set[str]], jobs: Items[Job], options: CommandOptions) -> list[Arm]:
    words, known = program
    return [
        programs.Program("reference", words, jobs, options, known),
        programs.Program("candidate", programs.own_command(), jobs, options),
    ]


def _systems(jobs: Items[Job], options: CommandOptions) -> list[Arm]:
    """One side per system. They share a session, so that a model is loaded once for runs of one seed."""
    names = dict.fromkeys(job.plan.system.name for job in jobs)
    if len(names) < 2:
        raise ConfigError(
            "one system has nothing to be compared with: name two with --system, "
            "another pagedbench with --reference, or folders of saved runs"
        )
    session, jobs_of = Session(options), {name: _jobs_of(name, jobs) for name in names}
    if len({len(own) for own in jobs_of.values()}) > 1:
        raise ConfigError("not every system has --prefix-caching: judge one value of on,off at a time")
    return [System(name, session, own) for name, own in jobs_of.items()]


def _jobs_of(system: str, jobs: Items[Job]) -> list[Job]:
    return [job for job in jobs if job.plan.system.name == system]


def _workload_names(jobs: Items[Job], *, of_systems: bool) -> list[str]:
    """Names of the jobs of one side, for the folders of their runs."""
    system = jobs[0].plan.system.name
    own, prefix = (_jobs_of(system, jobs), f"{system}_") if of_systems else (jobs, "")
    return [
        f"workload{number}" if job.folder is None else job.folder.name.removeprefix(prefix)
        for number, job in enumerate(own, start=1)
    ]


def _remove_old_reports(folder: Path) -> None:
    """Remove what --force replaces, so that no earlier verdict is left next to runs not yet judged."""
    for place in (folder, folder / FIRST):
        for name in OURS:
            (place / name).unlink(missing_ok=True)


def is_suspicion(comparison: Comparison) -> bool:
    """Whether the gate failed only on noisy figures. Exact figures need no second round."""
    failures = comparison.failures
    return bool(failures) and all(result.finding.basis is not Basis.EXACT for result in failures)


def narrowed(gate: Gate, comparison: Comparison) -> Gate:
    """The gate for the fresh runs: only the metrics that failed."""
    suspected = {result.finding.metric.name for result in comparison.failures}
    return replace(gate, metrics=tuple(name for name in gate.metrics if name in suspected))


def concluded(first: Comparison, fresh: Comparison) -> Comparison:
    """The comparison of the fresh runs, with a remark on each failure of the first round.

    The fresh runs are judged alone. There is a second round only because the first one failed, so the first
    one's pairs would bias the mean towards a failure. Testing after five pairs and again after all ten is
    optional stopping, and raises the rate of false alarms above the promised level; two rounds that must
    both fail lower it instead.
    """
    remarks = [_remark(result, fresh) for result in first.failures]
    return replace(fresh, remarks=(*remarks, *fresh.remarks))


def _remark(suspicion: GateResult, fresh: Comparison) -> str:
    finding = suspicion.finding
    key = _key(finding)
    again = next((item for item in fresh.findings if _key(item) == key), None)
    is_confirmed = any(_key(result.finding) == key for result in fresh.failures)
    name = f"{finding.metric.name} ({finding.group})" if finding.group else finding.metric.name
    count = 0 if finding.effect is None else finding.effect.count
    return (
        f"{finding.candidate}: {'confirmed' if is_confirmed else 'suspected, not confirmed'}: "
        f"{name} was {_estimate(finding)} in the first {counted(count, 'pair') if count > 1 else 'pair'}, "
        f"and {_estimate(again)} in as many fresh ones."
    )


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.candidate, finding.group, finding.metric.name


def _estimate(finding: Finding | None) -> str:
    if finding is None or finding.effect is None:
        return "not defined"
    return f"{100 * abs(finding.harm):.3g} % {'worse' if finding.harm > 0 else 'better'}"
