"""Pieces in processes: figures come when they are whole; a failure costs its figure alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagedbench.runs.parallel import Failure, new_stop
from pagedbench.runs.workers import Executor, Workers
from pagedbench.show.charts import Chart
from pagedbench.tools.paper.figure import Options, Outcome, Piece
from pagedbench.tools.paper.reproduction import reproduce

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagedbench.tools.paper.reproduction import Task


ONE, TWO = Workers(Executor.LOCAL, 1), Workers(Executor.LOCAL, 2)


def double(number: int) -> int:
    """Twice the number; a negative one fails."""
    if number < 0:
        raise ValueError("negative")
    return 2 * number


@dataclass(frozen=True)
class Numbers:
    """A figure of numbers."""

    name: str
    numbers: tuple[int, ...]
    title: str = "Numbers"
    traces: tuple[str, ...] = ()

    def pieces(self, options: Options) -> Sequence[Piece]:
        return [Piece(str(number), double, (number,), is_measured=number > 100) for number in self.numbers]

    def outcome(self, options: Options, results: Mapping[str, Any]) -> Outcome:
        return Outcome({"": [{"sum": sum(results.values())}]}, [], Chart(()), [])


def test_a_failed_piece_costs_its_figure_alone() -> None:
    figures = [Numbers("good", (1, 2, 3)), Numbers("bad", (4, -1)), Numbers("last", (200, 5))]
    options = {figure.name: Options() for figure in figures}
    seen: list[tuple[str, object]] = []
    stop = new_stop()
    done = {
        item.figure.name: item.outcome
        for item in reproduce(
            figures,
            options,
            TWO,
            stop,
            lambda task, got: seen.append((task.name, got)),
        )
    }
    assert set(done) == {"good", "bad", "last"}
    assert isinstance(done["good"], Outcome)
    assert done["good"].tables[""] == [{"sum": 12}]
    assert isinstance(done["bad"], Failure)
    assert done["bad"].reason.startswith("-1: ValueError: negative (")
    assert isinstance(done["last"], Outcome)
    assert len(seen) == 7
    assert isinstance(dict(seen)["bad -1"], Failure)
    assert seen[-1] == ("last 200", 400)  # what is measured comes last, alone


def once_there(path: Path) -> None:
    """Ends when there is such a file."""
    while not path.exists():
        time.sleep(0.02)


@dataclass(frozen=True)
class Slow(Numbers):
    """A figure whose first piece ends last: it waits for a file, and the second does not."""

    file: Path = Path()

    def pieces(self, options: Options) -> Sequence[Piece]:
        return [Piece("first", once_there, (self.file,)), Piece("second", double, (1,))]

    def outcome(self, options: Options, results: Mapping[str, Any]) -> Outcome:
        return Outcome({"": [{"order": list(results)}]}, [], Chart(()), [])


def test_results_come_in_the_order_of_pieces_whichever_ends_first(tmp_path: Path) -> None:
    figure, ended = Slow("slow", (), file=tmp_path / "second has ended"), list[str]()

    def end(task: Task, result: object) -> None:
        ended.append(task.name)
        figure.file.touch()

    (done,) = reproduce([figure], {"slow": Options()}, TWO, new_stop(), end)
    assert ended == ["slow second", "slow first"]
    assert isinstance(done.outcome, Outcome)
    assert done.outcome.tables[""] == [{"order": ["first", "second"]}]


def test_nothing_comes_after_a_stop() -> None:
    stop = new_stop()
    stop.set()
    figures = [Numbers("good", (1, 2, 3))]
    assert list(reproduce(figures, {"good": Options()}, TWO, stop, lambda *_: None)) == []


def test_known_results_are_not_computed_again() -> None:
    figures = [Numbers("whole", (1, 2)), Numbers("half", (3, 4)), Numbers("none", (5,))]
    known, computed = {"whole 1": 10, "whole 2": 20, "half 3": 30}, list[str]()
    options = {figure.name: Options() for figure in figures}
    done = reproduce(
        figures,
        options,
        ONE,
        new_stop(),
        lambda task, _: computed.append(task.name),
        known,
    )
    sums = {item.figure.name: item.outcome.tables[""][0]["sum"] for item in done}  # type: ignore[union-attr]
    assert sums == {"whole": 30, "half": 38, "none": 10}
    assert computed == ["half 4", "none 5"]
