"""`sweep`: what it leaves, that it resumes, and how it ends."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest

from cli.command import SIMULATED, Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Answer]

SWEEP = ("sweep", *SIMULATED, "--duration", "10", "--output", "out")


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_processes_leave_the_same_as_one(pagedbench: Command, here: Path) -> None:
    lists = ("--system", "paged,orca-max", "--rate", "1,8")
    answer = pagedbench(*SWEEP, *lists, "--jobs", "2", "--format", "csv")
    assert answer.code == 0
    assert "[4/4]" in answer.err
    rows = rows_of(answer.out)
    names = [row["cell"] for row in rows]
    assert names == [f"{s}_sharegpt_r{r}_s0" for s in ("paged", "orca-max") for r in (1, 8)]
    assert (here / "out" / "sweep.csv").read_text() == answer.out
    pagedbench("sweep", *SIMULATED, "--duration", "10", *lists, "--jobs", "1", "--output", "one")
    for name in names:
        for file in ("requests.csv", "steps.csv", "config.toml"):
            assert (here / "out" / name / file).read_bytes() == (here / "one" / name / file).read_bytes()
    row = rows_of((here / "out" / names[0] / "summary.csv").read_text())[0]
    assert {name: rows[0][name] for name in row} == row


def test_it_goes_on_where_it_ended(pagedbench: Command, here: Path) -> None:
    pagedbench(*SWEEP, "--jobs", "1", "--rate", "1")
    folder = here / "out" / "paged_sharegpt_r1_s0"
    before = (folder / "manifest.json").read_bytes()
    answer = pagedbench(*SWEEP, "--jobs", "1", "--rate", "1,2", "--seed", "0,1", "--format", "json")
    assert answer.code == 0
    assert [row["status"] for row in json.loads(answer.out)] == ["complete"] * 4
    assert "[2/4]" in answer.err
    assert "[1/4]" not in answer.err
    assert (folder / "manifest.json").read_bytes() == before
    answer = pagedbench(*SWEEP, "--rate", "1", "--kv-slots", "8000")
    assert answer.code == 2
    assert answer.sentence.startswith("out/paged_sharegpt_r1_s0 was made with --kv-slots 15696, not 8000")
    assert (folder / "manifest.json").read_bytes() == before
    assert pagedbench(*SWEEP, "--jobs", "1", "--rate", "1", "--kv-slots", "8000", "--force").code == 0


def test_the_table_shows_what_varies(pagedbench: Command, here: Path) -> None:
    answer = pagedbench(*SWEEP, "--jobs", "1", "--rate", "1,2", "--progress", "none")
    assert (answer.code, answer.err) == (0, "")
    for words in ("rate", "s/token", "valid", "Saved to out"):
        assert words in answer.out
    assert "seed" not in answer.out
    assert max(map(len, answer.out.splitlines())) <= 130


def test_an_interrupt_saves_what_ended(
    pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal arrives while the first cell runs; the second never begins."""
    import os
    import signal

    from pagedbench.simulation.executor import Simulated

    execute = Simulated.execute

    def interrupt(self: Simulated, batch: object) -> object:
        monkeypatch.setattr(Simulated, "execute", execute)
        os.kill(os.getpid(), signal.SIGINT)
        return execute(self, batch)

    monkeypatch.setattr(Simulated, "execute", interrupt)
    answer = pagedbench(
        "sweep", *SIMULATED, "--duration", "20000", "--jobs", "1", "--rate", "1,2", "--output", "out",
        "--format", "csv",
    )  # fmt: skip
    assert answer.code == 130
    assert [row["status"] for row in rows_of(answer.out)] == ["interrupted", "not run"]
    assert (
        json.loads((here / "out/paged_sharegpt_r1_s0/manifest.json").read_text())["status"] == "interrupted"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--jobs", "0"), "--jobs must be at least 1"),
        (("--device", "cpu", "--model", "opt-125m", "--jobs", "2"), "would let runs on a real device"),
        (("--rate", "1,1"), "--rate names 1.0 twice"),
    ],
)
def test_refusals(pagedbench: Command, here: Path, arguments: tuple[str, ...], words: str) -> None:
    answer = pagedbench(*SWEEP, *arguments)
    assert answer.code == 2
    assert words in answer.sentence
    assert not (here / "out").exists()


def test_a_dry_run_writes_nothing(pagedbench: Command, here: Path) -> None:
    answer = pagedbench(*SWEEP, "--rate", "1,2", "--dry-run")
    assert answer.code == 0
    assert list(here.iterdir()) == []
