"""Rounds of interleaved runs: their order, the runs themselves, and progress on stderr."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.exit_codes import INTERRUPTED, NOT_COMPARABLE
from pagedbench.runs.numbers import span
from pagedbench.runs.pairing import differences_of
from pagedbench.runs.result import RunStatus
from pagedbench.runs.saved import load_run
from pagedbench.tools.compare.comparison import Side

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.runs.jobs import Job
    from pagedbench.runs.saved import SavedRun
    from pagedbench.show.session import Session
    from pagedbench.tools.compare.question import Question


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of a round. `side` and `workload` count from 0, `repeat` from 1."""

    side: int
    workload: int
    repeat: int


def turns_of(num_sides: int, num_workloads: int, repeats: int) -> list[Turn]:
    """The runs of a round in order: workload by workload, each in the order A B B A A B and so on.

    The runs of one repeat follow one another, and every second repeat is reversed, so that a machine that
    gradually becomes slower or faster affects all sides alike.
    """
    return [
        Turn(side, workload, repeat)
        for workload in range(num_workloads)
        for repeat in range(1, repeats + 1)
        for side in (range(num_sides) if repeat % 2 else reversed(range(num_sides)))
    ]


class Arm(Protocol):
    """One side of a comparison, which can run any workload any number of times."""

    label: str

    def run(self, workload: int, folder: Path, title: str) -> None:
        """Save one run in the folder.

        Raises:
            ConfigError: the options are refused.
            KeyboardInterrupt: the run was interrupted.
            typer.Exit: it crashed.
        """
        ...


class System:
    """A system as a side: this process makes its runs, with the loaded backend."""

    def __init__(self, label: str, session: Session, jobs: Items[Job]) -> None:
        self.label = label
        self._session = session
        self._jobs = jobs

    def run(self, workload: int, folder: Path, title: str) -> None:
        """See `Arm.run`."""
        finished = self._session.execute(replace(self._jobs[workload], folder=folder), title)
        if self._session.is_interrupted:
            raise KeyboardInterrupt
        if finished.result.status is RunStatus.CRASHED:
            raise typer.Exit(self._session.exit_code)


class Rounds:
    """Makes rounds of runs.

    Args:
        workloads: names for the folders of the runs; with a single workload they have only a number.
        question: the metrics that every run must have, and the facts in which runs may differ.
        is_shown: print on stderr which run is under way.
    """

    def __init__(
        self, workloads: Items[str], repeats: int, folder: Path, question: Question, *, is_shown: bool
    ) -> None:
        self._workloads = workloads
        self._repeats = repeats
        self._folder = folder
        self._question = question
        self._is_shown = is_shown
        self._run_times: list[float] = []  # seconds

    def make(self, name: str, arms: Items[Arm]) -> list[Side]:
        """Make one round, in the order of `turns_of`, in the folder of this name.

        A round ends after the first repeat of the first workload if its runs cannot be compared.

        Raises:
            ConfigError: a program refused its options.
            typer.Exit: a run crashed, cannot be read, or was interrupted.
        """
        turns = turns_of(len(arms), len(self._workloads), self._repeats)
        runs: list[list[SavedRun]] = [[] for _ in arms]
        for number, turn in enumerate(turns, start=1):
            arm = arms[turn.side]
            title = f"{arm.label}, run {number} of {len(turns)}"
            self._announce(name, title, len(turns), number - 1)
            folder = self._folder / name / arm.label / self._run_name(turn)
            started = time.perf_counter()
            try:
                arm.run(turn.workload, folder, title)
            except KeyboardInterrupt:
                print(
                    f"Interrupted in run {number} of {len(turns)}: nothing is judged; "
                    f"the runs that have ended are in {self._folder / name}",
                    file=sys.stderr,
                )
                raise typer.Exit(INTERRUPTED) from None
            self._run_times.append(time.perf_counter() - started)
            runs[turn.side].append(self._read(folder, arm.label))
            if number == len(arms) and self._has_differences(runs):
                break
        return [Side(arm.label, tuple(side)) for arm, side in zip(arms, runs, strict=True)]

    def _has_differences(self, runs: Items[Items[SavedRun]]) -> bool:
        """Whether the first run of some side cannot be compared with that of the reference."""
        reference, *others = (side[0] for side in runs)
        return any(differences_of(reference, other, self._question.across) for other in others)

    def _run_name(self, turn: Turn) -> str:
        number = f"{turn.repeat:02d}"
        return number if len(self._workloads) == 1 else f"{self._workloads[turn.workload]}_{number}"

    def _announce(self, name: str, title: str, total: int, done: int) -> None:
        left = ""
        if self._run_times:
            mean = sum(self._run_times) / len(self._run_times)
            left = f": about {span(mean * (total - done))} left of {span(mean * total)}"
        if self._is_shown:
            print(f"[{name}] {title}{left}", file=sys.stderr, flush=True)

    def _read(self, folder: Path, label: str) -> SavedRun:
        """Read the run just made, perhaps by another version of the program."""
        gate = self._question.gate
        try:
            run = load_run(folder)
            missing = [name for name in (gate.metrics if gate else ()) if name not in run.values]
            if missing:
                raise ConfigError(f"its summary has no {' and no '.join(missing)}")
        except ConfigError as error:
            print(f"Error: a run of the {label} cannot be compared: {error}", file=sys.stderr)
            raise typer.Exit(NOT_COMPARABLE) from None
        return run
