"""Rounds of interleaved runs: makes them one after the other, and says how far it is."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.exit_codes import INTERRUPTED, NOT_COMPARABLE

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.runs.jobs import Job
    from pagedbench.runs.saved import SavedRun
    from pagedbench.show.session import Session
    from pagedbench.tools.compare.comparison import Side
    from pagedbench.tools.compare.interleaved import Turn


class Arm(Protocol):
    """One side: something that can make a run of every workload, as often as asked."""

    label: str

    def run(self, workload: int, folder: Path, title: str) -> None:
        """Leave one run in the folder; see `Program.run` for what is raised."""
        ...


class System:
    """One side of a comparison of systems: its runs are made in this process, on what is loaded."""

    def __init__(self, label: str, session: Session, jobs: Items[Job]) -> None:
        self.label = label
        self._session = session
        self._jobs = jobs

    def run(self, workload: int, folder: Path, title: str) -> None:
        """One run, saved in the folder.

        Raises:
            KeyboardInterrupt: it was interrupted.
            typer.Exit: it crashed.
        """
        from dataclasses import replace

        finished = self._session.execute(replace(self._jobs[workload], folder=folder), title)
        if self._session.is_interrupted:
            raise KeyboardInterrupt
        if finished.result.status == "crashed":
            raise typer.Exit(self._session.exit_code)


class Rounds:
    """Makes rounds of runs.

    Args:
        workloads: names for the folders of their runs; of one workload they have only a number.
        gated: metrics that every run must have.
        across: what the runs may differ in, of `pairing.KEYS`.
        is_shown: say on stderr which run is under way.
    """

    def __init__(
        self,
        workloads: Items[str],
        repeats: int,
        folder: Path,
        *,
        gated: Items[str],
        across: Items[str],
        is_shown: bool,
    ) -> None:
        self._workloads = workloads
        self._repeats = repeats
        self._folder = folder
        self._gated = gated
        self._across = across
        self._is_shown = is_shown
        self._seconds: list[float] = []  # that each run took

    def make(self, name: str, arms: Items[Arm]) -> list[Side]:
        """One round, in the folder of this name: every arm's runs, as `turns_of` orders them.

        It ends after the first repeat of the first workload if what came out of it cannot be compared.

        Raises:
            ConfigError: a program refused its options.
            typer.Exit: a run crashed, cannot be read, or was interrupted.
        """
        from pagedbench.tools.compare.comparison import Side
        from pagedbench.tools.compare.interleaved import turns_of

        turns = turns_of(len(arms), len(self._workloads), self._repeats)
        runs: list[list[SavedRun]] = [[] for _ in arms]
        for number, turn in enumerate(turns):
            arm = arms[turn.side]
            title = f"{arm.label}, run {number + 1} of {len(turns)}"
            self._announce(name, title, len(turns), number)
            folder = self._folder / name / arm.label / self._run_name(turn)
            started = time.perf_counter()
            try:
                arm.run(turn.workload, folder, title)
            except KeyboardInterrupt:
                print(
                    f"Interrupted in run {number + 1} of {len(turns)}: nothing is judged; "
                    f"the runs that have ended are in {self._folder / name}",
                    file=sys.stderr,
                )
                raise typer.Exit(INTERRUPTED) from None
            self._seconds.append(time.perf_counter() - started)
            runs[turn.side].append(self._read(folder, arm.label))
            if number + 1 == len(arms) and self._is_futile(runs):
                break
        return [Side(arm.label, tuple(side)) for arm, side in zip(arms, runs, strict=True)]

    def _is_futile(self, runs: Items[Items[SavedRun]]) -> bool:
        """Does the first run of one side differ from the reference's in what may not differ?"""
        from pagedbench.runs.pairing import differences_of

        reference, *others = (side[0] for side in runs)
        return any(differences_of(reference, other, self._across) for other in others)

    def _run_name(self, turn: Turn) -> str:
        number = f"{turn.repeat:02d}"
        return number if len(self._workloads) == 1 else f"{self._workloads[turn.workload]}_{number}"

    def _announce(self, name: str, title: str, total: int, done: int) -> None:
        from pagedbench.runs.numbers import span

        if not self._is_shown:
            return
        left = ""
        if self._seconds:
            mean = sum(self._seconds) / len(self._seconds)
            left = f": about {span(mean * (total - done))} left of {span(mean * total)}"
        print(f"[{name}] {title}{left}", file=sys.stderr, flush=True)

    def _read(self, folder: Path, label: str) -> SavedRun:
        """The run just made, by whatever version of the program."""
        from pagedbench.runs.saved import load_run

        try:
            run = load_run(folder)
            missing = [name for name in self._gated if name not in run.values]
            if missing:
                raise ConfigError(f"its summary has no {' and no '.join(missing)}")
        except ConfigError as error:
            print(f"Error: a run of the {label} cannot be compared: {error}", file=sys.stderr)
            raise typer.Exit(NOT_COMPARABLE) from None
        return run
