"""Progress in runs or searches of a command: a line for each that ends, or a bar on a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import span
from pagedbench.show.console import shows_live, stderr_console

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID


class CellProgress:
    """Counts on stderr while the `with` block works.

    Args:
        total: how many there are; `done` of them ended in an earlier command.
        mode: "rich", "plain", "none", or "auto": rich on a terminal, plain elsewhere.
    """

    def __init__(self, total: int, mode: str, *, done: int = 0) -> None:
        self._console = stderr_console()
        self._total, self._done, self._found = total, done, done
        self._started = time.perf_counter()
        self._is_quiet = mode == "none"
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if mode == "rich" or (mode == "auto" and shows_live(self._console)):
            self._bar = self._new_bar()

    def _new_bar(self) -> Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )

    def __enter__(self) -> CellProgress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("running", total=self._total, completed=self._done)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def ended(self, name: str, outcome: str) -> None:
        """One more is done; `outcome` in a few words."""
        self._done += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, description=name)
        elif not self._is_quiet:
            left = f"; {span(self._seconds_left())} left" if self._done < self._total else ""
            self._console.print(
                f"[{self._done}/{self._total}] {name}: {outcome}{left}", markup=False, soft_wrap=True
            )

    def _seconds_left(self) -> float:
        """Time for the rest at the mean speed so far."""
        made = self._done - self._found
        return (time.perf_counter() - self._started) * (self._total - self._done) / made
