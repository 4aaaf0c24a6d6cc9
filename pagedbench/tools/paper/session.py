"""What `reproduce` does once everything is checked: compute, show and save figures as they are complete."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.runs.exit_codes import CRASHED, INTERRUPTED
from pagedbench.runs.interrupts import Interrupts
from pagedbench.runs.parallel import Failure, new_stop
from pagedbench.runs.workers import connected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.runs.checkpoint import Checkpoint
    from pagedbench.runs.workers import Workers
    from pagedbench.tools.paper.claim import Claim
    from pagedbench.tools.paper.figure import Figure, Options, Outcome
    from pagedbench.tools.paper.reproduction import Task


class Reproduction:
    """The complete figures, and the folder with them, which is saved again after each.

    Args:
        output: a folder for this command alone.
    """

    def __init__(self, figures: Sequence[Figure], output: Path) -> None:
        from pagedbench.clock import utc_text

        self.outcomes: dict[str, Outcome] = {}
        self.failures: list[str] = []
        self.figures = figures
        self._started = utc_text()
        self._folder = output
        self._contents: dict[str, bytes] = {}

    @property
    def claims(self) -> list[Claim]:
        """The claims of all complete figures in the paper's order, and those across figures."""
        from pagedbench.tools.paper.cross_claims import cross_claims

        whole = [self.outcomes[figure.name] for figure in self.figures if figure.name in self.outcomes]
        ratios = {name: outcome.ratios for name, outcome in self.outcomes.items() if outcome.ratios}
        return [claim for outcome in whole for claim in outcome.claims] + list(cross_claims(ratios))

    def add(self, figure: Figure, outcome: Outcome) -> None:
        """Add a figure, and save all figures so far.

        Raises:
            ReportError: they cannot be saved.
        """
        self.outcomes[figure.name] = outcome
        self._contents |= outcome.files(figure.name)
        self.save("incomplete")

    def save(self, status: str) -> Path:
        """Write the folder again, and return its path."""
        from pagedbench.clock import utc_text
        from pagedbench.runs.files import json_text, write_files
        from pagedbench.runs.machine import fingerprint, git_commit, versions
        from pagedbench.tools.paper.scorecard import SCHEMA_VERSION, scorecard_document

        manifest = {
            "schema_version": SCHEMA_VERSION,
            "status": status,
            "started": self._started,
            "ended": utc_text(),
            "command": shlex.join(["pagedbench", *sys.argv[1:]]),
            "versions": versions(),
            "git_commit": git_commit(),
            "machine": fingerprint(),
            "figures": {name: list(outcome.facts) for name, outcome in self.outcomes.items()},
            "failures": self.failures,
        }
        texts = {
            f"scorecard.{kind}": scorecard_document(self.claims, kind) for kind in ("csv", "md", "json")
        }
        texts["manifest.json"] = json_text(manifest)
        return write_files({**self._contents, **texts}, self._folder, force=True)


def run_reproduction(
    figures: Sequence[Figure], options: Options, workers: Workers, output: Path, format: str, progress: str,
    *, force: bool,
) -> int:  # fmt: skip
    """Compute what is missing, show and save it. Returns the exit code.

    Raises:
        ConfigError: another reproduction is writing to the folder.
        ReportError: the results cannot be saved.
    """
    from pagedbench.runs.checkpoint import checkpoint_in, digest_of

    work = Reproduction(figures, output)
    contents = digest_of(Path(path) for _, path in options.lengths.files)
    with connected(workers), checkpoint_in(output, "reproduce", contents, is_new=force) as checkpoint:
        is_interrupted = _compute(work, options, workers, checkpoint, format, progress)
        is_complete = not work.failures and not is_interrupted
        _deliver(work, format, "complete" if is_complete else "interrupted" if is_interrupted else "failed")
        if is_complete:
            checkpoint.remove()
        else:
            words = f"Finished parts are kept: the same command with --output {output} computes the rest."
            print(words, file=sys.stderr)
    return INTERRUPTED if is_interrupted else CRASHED if work.failures else 0


def _compute(
    work: Reproduction,
    options: Options,
    workers: Workers,
    checkpoint: Checkpoint,
    format: str,
    progress: str,
) -> bool:
    """Compute, save and show the figures. Returns whether it was interrupted."""
    from pagedbench.show.cells import CellProgress
    from pagedbench.tools.paper.reproduction import reproduce, tasks_of

    by_figure = {figure.name: options for figure in work.figures}
    tasks, stop = tasks_of(work.figures, by_figure), new_stop()
    known = checkpoint.results({task.name: _kept_by(task) for task in tasks})
    with (
        Interrupts(stop.set) as interrupts,
        CellProgress(len(tasks), progress, done=len(known)) as shown,
    ):

        def ended(task: Task, result: object) -> None:
            has_failed = isinstance(result, Failure)
            if not has_failed:
                checkpoint.keep(_kept_by(task), result)
            shown.ended(task.name, "failed" if has_failed else "done")

        for done in reproduce(work.figures, by_figure, workers, stop, ended, known):
            if isinstance(done.outcome, Failure):
                work.failures.append(f"{done.figure.name}: {done.outcome.reason}")
                continue
            work.add(done.figure, done.outcome)
            if format == "rich":
                _print_figure(done.figure, done.outcome)
    return interrupts.received


def _kept_by(task: Task) -> object:
    """What determines a result; a measurement also depends on this machine."""
    from pagedbench.runs.machine import fingerprint

    return (task.piece, fingerprint() if task.piece.is_measured else None)


def _print_figure(figure: Figure, outcome: Outcome) -> None:
    from pagedbench.show.console import COMPARE_WIDTH, say, stdout_console
    from pagedbench.show.table import print_table
    from pagedbench.tools.paper.scorecard import claims_table

    console = stdout_console(COMPARE_WIDTH)
    print_table(console, claims_table(outcome.claims), figure.title)
    for claim in outcome.claims:
        if not claim.holds and claim.why:
            say(console, f"Missed, {claim.subject}: {claim.why}.")
    for fact in outcome.facts:
        say(console, fact)
    console.print()


def _deliver(work: Reproduction, format: str, status: str) -> None:
    from pagedbench.runs.machine import install_command
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.show.drawing import can_draw
    from pagedbench.show.table import print_table
    from pagedbench.tools.paper.scorecard import claims_table, scorecard_document, summary

    claims, num_own = work.claims, sum(len(outcome.claims) for outcome in work.outcomes.values())
    if format == "rich":
        console = stdout_console(COMPARE_WIDTH)
        if claims[num_own:]:
            print_table(console, claims_table(claims[num_own:]), "Across figures")
        if claims:
            console.print(summary(claims))
    elif claims:
        sys.stdout.write(scorecard_document(claims, format))
    for failure in work.failures:
        print(f"Error: {failure}", file=sys.stderr)
    if work.outcomes:
        folder = work.save(status)
        print(f"Saved to {folder}", file=sys.stdout if format == "rich" else sys.stderr)
        if not can_draw():
            print(f"No pictures: matplotlib is missing: {install_command('matplotlib')}", file=sys.stderr)
