"""Session: the runs of one command, each saved when it ends, with progress; and their documents."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.errors import ConfigError
from pagedbench.runs.exit_codes import CRASHED, INTERRUPTED, INVALID, MISSED_SLO
from pagedbench.runs.interrupts import Interrupts
from pagedbench.runs.runner import Runner
from pagedbench.runs.slo_requirement import shortfall

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as Items
    from pathlib import Path

    from rich.console import Console

    from pagedbench.remote.runner import ServerRunner
    from pagedbench.runs.jobs import Job
    from pagedbench.runs.options import CommandOptions
    from pagedbench.runs.result import Result
    from pagedbench.runs.runner import Ready


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that has ended and been saved."""

    result: Result
    folder: Path


class Session:
    """The runs of one command.

    Args:
        servers: runners of jobs against servers, by the label of the server.
    """

    def __init__(self, options: CommandOptions, servers: Mapping[str, ServerRunner] | None = None) -> None:
        self.options = options
        self._servers = servers or {}
        self.finished: list[Finished] = []
        self.is_interrupted = False
        command = shlex.join(["pagedbench", *sys.argv[1:]])
        self._runner = Runner(
            command, save_outputs=options.save_outputs, save_events=options.save_events, predicts=True
        )

    @property
    def results(self) -> list[Result]:
        return [finished.result for finished in self.finished]

    @property
    def exit_code(self) -> int:
        if self.is_interrupted:
            return INTERRUPTED
        if any(result.status == "crashed" for result in self.results):
            return CRASHED
        if self.options.strict and not all(result.is_usable for result in self.results):
            return INVALID
        return 0 if self.missed_slo is None else MISSED_SLO

    @property
    def missed_slo(self) -> str | None:
        """Which complete runs miss --require-slo, and by how much; None if none does."""
        from pagedbench.show.comparison import labels

        required = self.options.required_attainment
        if required is None:
            return None
        named = zip(labels(self.results), self.results, strict=True)
        complete = [(label, result.values) for label, result in named if result.status == "complete"]
        return shortfall(required, [(label, values["slo_attainment"]) for label, values in complete])

    def conclude(self) -> int:
        """The exit code, after everything is shown and saved; a missed SLO is reported on stderr."""
        if self.missed_slo is not None:
            print(self.missed_slo, file=sys.stderr)
        return self.exit_code

    def execute(self, job: Job, title: str = "") -> Finished:
        """Run one job and write its folder.

        Raises:
            ReportError: the folder cannot be written.
        """
        if job.plan.server is not None:
            return self._execute_on_server(job, self._servers[job.plan.server.label], title)
        from pagedbench.show.progress import Progress

        ready = self._runner.prepare(job.plan, job.trace)
        _announce(ready)
        with Interrupts(ready.engine.stop) as interrupts:
            result = self._runner.run(
                ready, lambda engine: Progress(engine, job.trace, self.options.progress, title)
            )
            if result.record.crash is not None:
                crash = result.record.crash
                print(f"Error: crashed with {crash}; PAGEDBENCH_DEBUG=1 shows all of it", file=sys.stderr)
            folder = self._save(job, result)
        return self._note(result, folder, was_interrupted=interrupts.received)

    def _execute_on_server(self, job: Job, runner: ServerRunner, title: str) -> Finished:
        """Warm the server up, send the trace, and save what was seen."""
        from pagedbench.show.sending import Sending

        sending = Sending(len(job.trace.requests), self.options.progress, title or job.name)
        with Interrupts(runner.stop.set) as interrupts:
            try:
                runner.warm_up(job.plan)
            except ConfigError as error:
                if not self.finished:
                    raise  # nothing is lost
                print(f"Error: {job.name}: {error}", file=sys.stderr)
                result = runner.crashed(job.plan, job.trace, str(error))
            else:
                result = runner.run(job.plan, job.trace, sending.note)
            folder = self._save(job, result)
        return self._note(result, folder, was_interrupted=interrupts.received)

    def _save(self, job: Job, result: Result) -> Path:
        from pagedbench.runs.files import default_folder, write_run

        folder = job.folder or default_folder(job.name, result.started)
        return write_run(result, folder, force=self.options.force, save_outputs=self.options.save_outputs)

    def _note(self, result: Result, folder: Path, *, was_interrupted: bool) -> Finished:
        self.is_interrupted = was_interrupted
        self.finished.append(Finished(result, folder))
        return self.finished[-1]


def _announce(ready: Ready) -> None:
    """Print an estimate of a long run's time before it begins."""
    from pagedbench.runs.numbers import number, span
    from pagedbench.show.progress import NOTABLE_TIME, TOKENS_PER_WARM_UP_TOKEN, estimated_time

    if ready.speed is None:
        return
    seconds = estimated_time(ready.trace, ready.speed)
    if seconds > NOTABLE_TIME:
        print(
            f"This run of {ready.plan.system.name} takes about {span(seconds)}: the longer of its arrivals "
            f"and its output at {TOKENS_PER_WARM_UP_TOKEN:g} of the warm-up's {number(ready.speed)} "
            "tokens/s.",
            file=sys.stderr,
        )


def print_header(console: Console, jobs: Items[Job]) -> None:
    """Print what will really run; what several runs have in common is printed once."""
    from pagedbench.show.header import header_rows
    from pagedbench.show.table import facts, print_table

    print_table(console, facts(header_rows([job.plan for job in jobs], [job.trace for job in jobs])))


def print_plans(jobs: list[Job]) -> None:
    """Print what would run (--dry-run): first the facts common to all runs, then each run's own."""
    from pagedbench.show.console import stdout_console
    from pagedbench.show.header import plan_rows
    from pagedbench.show.table import facts, print_table

    console = stdout_console()
    print_header(console, jobs)
    each = [plan_rows(job.plan, job.trace) for job in jobs]
    common = [row for row in each[0] if all(row in rows for rows in each)]
    print_table(console, facts(common))
    for number, (job, rows) in enumerate(zip(jobs, each, strict=True), start=1):
        if len(jobs) > 1:
            console.rule(f"run {number}/{len(jobs)}: {job.name}")
        print_table(console, facts(row for row in rows if row not in common))
    console.print("Nothing was run or written (--dry-run).")


def print_document(session: Session) -> None:
    """Print the document of --format on stdout, and the folders on stderr."""
    from pagedbench.show.documents import document

    folders = [finished.folder for finished in session.finished]
    sys.stdout.write(document(session.results, folders, session.options.format))
    for folder in folders:
        print(f"Saved to {folder}", file=sys.stderr)
