"""Reproduction: computes the pieces of several figures in any order, and makes each complete figure."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pagedbench.runs.exit_codes import INTERRUPTED
from pagedbench.runs.parallel import Failure, stopping
from pagedbench.runs.workers import Executor, Workers, in_workers
from pagedbench.tools.paper.lengths import receive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pagedbench.runs.parallel import Stop
    from pagedbench.tools.paper.figure import Figure, Options, Outcome, Piece


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of a figure, and the figure."""

    figure: str
    piece: Piece

    @property
    def name(self) -> str:
        return f"{self.figure} {self.piece.name}"


@dataclass(frozen=True, slots=True)
class Done:
    """A complete figure: its outcome, or why it failed."""

    figure: Figure
    outcome: Outcome | Failure


def tasks_of(figures: Sequence[Figure], options: Mapping[str, Options]) -> list[Task]:
    """All pieces to compute. `options`: by figure."""
    return [Task(figure.name, piece) for figure in figures for piece in figure.pieces(options[figure.name])]


def reproduce(
    figures: Sequence[Figure],
    options: Mapping[str, Options],
    workers: Workers,
    stop: Stop,
    ended: Callable[[Task, Any], None],
    known: Mapping[str, Any] | None = None,
) -> Iterator[Done]:
    """Every figure when it becomes complete; none that `stop` interrupted.

    Simulations run in parallel; then measurements of this machine, one at a time. A figure gets its results
    in the order of its pieces, whichever ended first.

    Args:
        options: by figure.
        ended: is called with every computed task and its result.
        known: results of an earlier command, by the name of the task.
    """
    tasks, results = tasks_of(figures, options), dict(known or {})
    left = [task for task in tasks if task.name not in results]
    groups = (
        ([task for task in left if not task.piece.is_measured], workers),
        ([task for task in left if task.piece.is_measured], Workers(Executor.LOCAL, 1)),
    )
    by_name = {figure.name: figure for figure in figures}
    names = {name: [task.name for task in tasks if task.figure == name] for name in by_name}

    def done(figure: Figure) -> Done:
        own = {task.piece.name: results[task.name] for task in tasks if task.figure == figure.name}
        return Done(figure, _outcome(figure, options[figure.name], own))

    begin = partial(
        receive, {key: data for own in options.values() for key, data in own.lengths.datasets().items()}
    )
    for figure in figures:
        if results.keys() >= set(names[figure.name]):
            yield done(figure)
    for group, crew in groups:
        for task, result in in_workers(compute, group, crew, stop, apart=True, begin=begin):
            if stop.is_set() and isinstance(result, Failure):
                continue  # it was interrupted
            results[task.name] = result
            ended(task, result)
            if results.keys() >= set(names[task.figure]):
                yield done(by_name[task.figure])


def _outcome(figure: Figure, options: Options, results: Mapping[str, Any]) -> Outcome | Failure:
    for name, result in results.items():
        if isinstance(result, Failure):
            return Failure(f"{name}: {result.reason}")
    return figure.outcome(options, results)


def compute(task: Task, stop: Stop) -> Any:
    """Compute a piece in another process, which ends with `stop`: half a piece is of no use."""
    with stopping(stop, _give_up):
        return task.piece.compute()


def _give_up() -> None:
    os._exit(INTERRUPTED)
