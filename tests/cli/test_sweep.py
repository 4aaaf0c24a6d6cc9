"""`sweep`: what it leaves, that it resumes, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
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
        (("--executor", "slurm"), "--executor is one of local, ray, not 'slurm'"),
        (("--ray-address", "auto"), "--ray-address has no effect without --executor ray"),
    ],
)
def test_refusals(pagedbench: Command, here: Path, arguments: tuple[str, ...], words: str) -> None:
    answer = pagedbench(*SWEEP, *arguments)
    assert answer.code == 2
    assert words in answer.sentence
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ray-address", "here"), "takes auto or HOST:PORT, such as 10.0.0.1:6379, not 'here'"),
        (("--ray-address", "127.0.0.1:1"), "no Ray answers at 127.0.0.1:1 (Connection refused)"),
        (("--device", "cpu", "--model", "opt-125m"), "takes simulated devices only"),
        (("--jobs", "0"), "--jobs must be at least 1"),
    ],
)
def test_refusals_with_ray(
    pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    """Before anything is started or written; also where Ray is not installed."""
    for command in ("sweep", "capacity", "policies"):
        with monkeypatch.context() as patch:
            patch.setattr("pagedbench.runs.workers.find_spec", lambda name: name)
            answer = pagedbench(command, *SIMULATED, "--executor", "ray", *arguments, "--output", "out")
        assert answer.code == 2
        assert words in answer.sentence
    assert not (here / "out").exists()


def test_ray_is_an_extra(pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagedbench.runs.workers.find_spec", lambda name: None)
    for arguments in (SWEEP, ("reproduce", "fig11", "--output", "out")):
        answer = pagedbench(*arguments, "--executor", "ray")
        assert answer.code == 2
        assert "needs Ray, which is the extra [ray]: " in answer.sentence
        assert answer.sentence.endswith("-m pip install 'pagedbench[ray]'")
    assert not (here / "out").exists()


FOUR = """
import os
import sys

from pagedbench.cli.app import main
from pagedbench.tools.sweep import sweep  # what all of them need is imported once

codes, children = [], []
for number in range(4):
    if (child := os.fork()) == 0:
        log = os.open(f"log{number}", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        main(sys.argv[1:])
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


def test_four_sweeps_on_one_folder_lose_and_double_nothing(here: Path) -> None:
    """One at a time works there; others are refused, or find its cells if they come later."""
    arguments = (*SWEEP, "--rate", "1,2,4", "--jobs", "1", "--progress", "plain")
    done = subprocess.run(
        [sys.executable, "-c", FOUR, *arguments], capture_output=True, text=True, check=True
    )
    codes = json.loads(done.stdout)
    assert len(codes) == 4
    assert 0 in codes
    assert set(codes) <= {0, 2}
    logs = [(here / f"log{number}").read_text() for number in range(4)]
    for code, log in zip(codes, logs, strict=True):
        assert code == 0 or log.startswith("Error: another sweep is at work in out")
    assert sum(log.count("s/token, valid") for log in logs) == 3  # each cell once, whoever ran it
    rows = rows_of((here / "out" / "sweep.csv").read_text())
    assert [row["status"] for row in rows] == ["complete"] * 3
    names = [f"paged_sharegpt_r{rate}_s0" for rate in (1, 2, 4)]
    assert sorted(path.name for path in (here / "out").iterdir()) == sorted([*names, "sweep.csv"])


def test_a_dry_run_writes_nothing(pagedbench: Command, here: Path) -> None:
    answer = pagedbench(*SWEEP, "--rate", "1,2", "--dry-run")
    assert answer.code == 0
    assert list(here.iterdir()) == []
