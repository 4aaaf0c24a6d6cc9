"""Reproduction: the pieces of several figures, computed in any order, and each figure when it is whole."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pagedbench.runs.exit_codes import INTERRUPTED
from pagedbench.runs.parallel import Failure, in_processes, stopping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pagedbench.runs.parallel import Stop
    from pagedbench.tools.paper.figure import Figure, Options, Outcome, Piece


@dataclass(frozen=True, slots=True)
class Task:
    """A piece, and the figure that it belongs to."""

    figure: str
    piece: Piece

    @property
    def name(self) -> str:
        return f"{self.figure} {self.piece.name}"


@dataclass(frozen=True, slots=True)
class Done:
    """A figure that is whole: how it came out, or why it did not."""

    figure: Figure
    outcome: Outcome | Failure


def tasks_of(figures: Sequence[Figure], options: Mapping[str, Options]) -> list[Task]:
    """Everything to be computed. Options: by figure."""
    return [Task(figure.name, piece) for figure in figures for piece in figure.pieces(options[figure.name])]


def reproduce(
    figures: Sequence[Figure],
    options: Mapping[str, Options],
    jobs: int,
    stop: Stop,
    ended: Callable[[Task, bool], None],
) -> Iterator[Done]:
    """Every figure as it becomes whole; none that `stop` cut short.

    Simulations run side by side; measurements of this machine follow, each alone. A figure gets its results
    in the order of its pieces, whichever ended first.

    Args:
        options: by figure.
        ended: told of every task, and whether it succeeded.
    """
    tasks = tasks_of(figures, options)
    pieces = {f.name: [task.piece.name for task in tasks if task.figure == f.name] for f in figures}
    by_name = {figure.name: figure for figure in figures}
    results: dict[str, dict[str, Any]] = {figure.name: {} for figure in figures}
    groups = (
        ([task for task in tasks if not task.piece.is_measured], jobs),
        ([task for task in tasks if task.piece.is_measured], 1),
    )
    for group, number in groups:
        for task, result in in_processes(compute, group, number, stop):
            if stop.is_set():
                return
            ended(task, not isinstance(result, Failure))
            results[task.figure][task.piece.name] = result
            names, found = pieces[task.figure], results[task.figure]
            if len(found) == len(names):
                figure, ordered = by_name[task.figure], {name: found[name] for name in names}
                yield Done(figure, _outcome(figure, options[figure.name], ordered))


def _outcome(figure: Figure, options: Options, results: Mapping[str, Any]) -> Outcome | Failure:
    for name, result in results.items():
        if isinstance(result, Failure):
            return Failure(f"{name}: {result.reason}")
    return figure.outcome(options, results)


def compute(task: Task, stop: Stop) -> Any:
    """A piece in a process of its own, which ends with `stop`: half a piece is of no use."""
    with stopping(stop, _give_up):
        return task.piece.compute()


def _give_up() -> None:
    os._exit(INTERRUPTED)
