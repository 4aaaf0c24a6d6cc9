"""A checkpoint gives back what was kept for an equal task, and nothing else."""

from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from pagedbench.runs import checkpoint as module
from pagedbench.runs.checkpoint import Checkpoint, checkpoint_in, description, digest_of, is_unfinished
from pagedbench.runs.exit_codes import CRASHED
from pagedbench.tools.paper.curve import Curve, Point
from pagedbench.tools.paper.figure import Options
from pagedbench.tools.paper.figures import FIELD, FIGURES
from pagedbench.tools.paper.lengths import WITH_BLOCKS, Lengths

if TYPE_CHECKING:
    from pathlib import Path

CURVE = Curve((Point(1 / 3, None, 5, 2.5), Point(2.0, 0.1, 7, 1e-9)), {0.5: 2.0})


@dataclass(frozen=True)
class Task:
    """What a test computes."""

    name: str
    share: float = 0.5


def test_results_come_back_for_equal_tasks_alone(tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path)
    kept.keep(Task("a"), CURVE)
    kept.keep(Task("b"), {"x": (1, 2.0), "y": None})
    asked = {"a": Task("a"), "b": Task("b"), "c": Task("c"), "d": Task("a", 0.25)}
    assert Checkpoint(tmp_path).results(asked) == {"a": CURVE, "b": {"x": (1, 2.0), "y": None}}
    assert Checkpoint(tmp_path, "another file").results(asked) == {}


def test_another_program_computes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Checkpoint(tmp_path).keep("task", 1)
    monkeypatch.setattr(module, "code_digest", lambda: "changed")
    assert Checkpoint(tmp_path).results({"it": "task"}) == {}


@pytest.mark.parametrize("content", [b"", b"cut"])
def test_a_damaged_file_is_no_result(tmp_path: Path, content: bytes) -> None:
    Checkpoint(tmp_path).keep("task", 1)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1] if content else content)
    assert Checkpoint(tmp_path).results({"it": "task"}) == {}


class Evil:
    """A pickle of it calls a function."""

    def __reduce__(self) -> object:
        return os.system, (f"exit {CRASHED}",)


def test_a_file_of_somebody_else_runs_nothing(tmp_path: Path) -> None:
    Checkpoint(tmp_path).keep("task", 1)
    (path,) = tmp_path.iterdir()
    content = pickle.dumps(Evil())
    path.write_bytes(hashlib.sha256(content).digest() + content)
    assert Checkpoint(tmp_path).results({"it": "task"}) == {}


def test_tasks_of_all_figures_are_told_apart() -> None:
    options = Options(Lengths(tuple((name, f"{name}.csv") for name in WITH_BLOCKS)))
    pieces = [piece for figure in (*FIGURES.values(), *FIELD.values()) for piece in figure.pieces(options)]
    texts = [str(description(piece)) for piece in pieces]
    assert len(texts) > 500
    assert len(set(texts)) == len(texts)
    assert not any(" at 0x" in text for text in texts)
    first = next(piece for piece in pieces if piece.name == "paged s0")
    experiment, *others = first.arguments
    other = replace(first, arguments=(replace(experiment, prefix_len=1), *others))
    assert description(other) != description(first)


def test_what_cannot_be_told_apart_is_refused() -> None:
    assert description(1) != description(1.0) != description("1.0")
    assert description((0.1 + 0.2,)) != description((0.3,))
    with pytest.raises(TypeError, match="a task holds a object"):
        description([object()])


def test_contents_of_files_count(tmp_path: Path) -> None:
    file = tmp_path / "lengths.csv"
    file.write_text("1,2")
    before = digest_of([file])
    assert digest_of([tmp_path]) == before
    file.write_text("1,3")
    assert digest_of([file]) != before


def test_an_empty_folder_is_not_left(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with checkpoint_in(folder, "test", None, is_new=False):
        assert is_unfinished(folder)
    assert not folder.exists()
    with checkpoint_in(folder, "test", None, is_new=False) as kept:
        kept.keep("task", 1)
    assert is_unfinished(folder)
    with checkpoint_in(folder, "test", None, is_new=True) as kept:
        assert kept.results({"it": "task"}) == {}
