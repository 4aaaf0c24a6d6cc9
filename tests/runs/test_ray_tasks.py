"""Tasks on a Ray: the same outcomes as in processes, and what a lost worker had is made again."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from pagedbench.config import ConfigError, RunConfig
from pagedbench.plan import make_plan
from pagedbench.runs.cell import Cell, run_cells
from pagedbench.runs.parallel import Failure, new_stop
from pagedbench.runs.traces import trace_of
from pagedbench.runs.workers import Executor, Workers, connected, in_workers
from pagedbench.tools.paper.figure import Options, Outcome
from pagedbench.tools.paper.figures import FIGURES
from pagedbench.tools.paper.lengths import Lengths
from pagedbench.tools.paper.reproduction import reproduce
from pagedbench.tools.plan.tasks import Case, outcomes
from pagedbench.workload.dataset import load_dataset
from runs.tasks import work
from tools.plan.fleets import make_setup

RAY, HERE = Workers(Executor.RAY, 2), Workers(Executor.LOCAL, 1)
NUM_CELLS = 30


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray, the extra [ray], is not installed")
def test_a_ray_of_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One test, as Ray takes seconds to start: what it does, and that nothing of it is left."""
    made, mkdtemp, handlers = list[Path](), tempfile.mkdtemp, signal.getsignal(signal.SIGTERM)

    def noting(*arguments: str, **options: str) -> str:
        made.append(Path(mkdtemp(*arguments, **options)))
        return str(made[-1])

    monkeypatch.setattr(tempfile, "mkdtemp", noting)
    with connected(RAY):
        assert signal.getsignal(signal.SIGTERM) == handlers
        begun = next(path for path in made if path.name.startswith("pb-ray-"))
        assert begun.exists()
        a_killed_worker_loses_and_doubles_nothing(tmp_path)
        outcomes_are_those_of_processes(monkeypatch)
        a_stop_ends_what_runs_and_begins_nothing()
        figures_are_those_of_processes(tmp_path)
        fleets_are_those_of_processes()
        a_worker_with_another_program_gets_no_task(monkeypatch)
    assert not begun.exists()
    assert serving() == []
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if begun.name in text_of(path)]
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert capfd.readouterr() == ("", "")


def text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has ended
        return ""


def serving() -> list[int]:
    """The processes of the workers that this process started, by /proc."""
    import psutil

    children = [child.pid for child in psutil.Process().children(recursive=True)]
    return [child for child in children if text_of(Path(f"/proc/{child}/cmdline")).startswith("ray::_")]


def cells_in(folder: Path) -> list[Cell]:
    config = RunConfig(model="opt-13b", device="sim:a100-40gb", num_requests=5)
    plans = [make_plan(replace(config, seed=seed)) for seed in range(NUM_CELLS)]
    traces = [trace_of(plan, load_dataset("sharegpt")) for plan in plans]
    return [
        Cell(f"s{seed}", plan, trace, folder / f"s{seed}", save_outputs=False, command="pagedbench sweep")
        for seed, (plan, trace) in enumerate(zip(plans, traces, strict=True))
    ]


def a_killed_worker_loses_and_doubles_nothing(folder: Path) -> None:
    cells, seen, killed = cells_in(folder / "ray"), list[str](), list[int]()
    for cell, status in run_cells(cells, RAY, new_stop()):
        assert status == "complete"
        seen.append(cell.name)
        if len(seen) == 5:
            killed = serving()  # all of them, whatever they do
            for process in killed:
                os.kill(process, signal.SIGKILL)
    assert killed
    assert sorted(seen) == sorted(cell.name for cell in cells)
    here = [replace(cell, folder=folder / "here" / cell.name) for cell in cells]
    for cell, _ in run_cells(here, HERE, new_stop()):
        for path in cell.folder.iterdir():
            if path.name not in ("manifest.json", "summary.json", "summary.csv"):  # with ids and times
                assert path.read_bytes() == (folder / "ray" / cell.name / path.name).read_bytes()
    assert len(list((folder / "ray").iterdir())) == len(list((folder / "here").iterdir())) == NUM_CELLS


def outcomes_are_those_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagedbench.runs.ray_tasks.MAX_RETRIES", 1)
    tasks = ["a", "fail", "die", "b"]
    outcomes = dict(in_workers(work, tasks, RAY, new_stop()))
    assert sorted(outcomes) == sorted(tasks)
    assert (outcomes["a"], outcomes["b"]) == ("A", "B")
    failed, died = outcomes["fail"], outcomes["die"]
    assert isinstance(failed, Failure)
    assert failed.reason.startswith("ValueError: bad luck (")
    assert isinstance(died, Failure)
    assert died.reason == "its worker died 2 times: it may need more memory"


def a_stop_ends_what_runs_and_begins_nothing() -> None:
    stop = new_stop()
    timer = threading.Timer(0.0, stop.set)
    seen = []
    for task, outcome in in_workers(work, ["a", "wait", "wait", "b"], RAY, stop):
        seen.append((task, outcome))
        if not timer.is_alive() and not stop.is_set():
            timer.start()
    assert ("a", "A") in seen
    assert ("wait", "stopped") in seen
    assert ("b", "B") not in seen
    assert list(in_workers(work, ["a"], RAY, stop)) == []


def figures_are_those_of_processes(folder: Path) -> None:
    """The file of lengths is on this machine alone, so it is gone before a worker could read it."""
    file = folder / "own.csv"
    file.write_text("prompt_len,output_len\n" + "161,338\n" * 50)
    figures, options = [FIGURES["fig11"], FIGURES["fig19a"]], Options(Lengths((("sharegpt", str(file)),)))
    assert len(options.lengths.rows("sharegpt")) == 50
    file.unlink()
    by_name = {figure.name: options for figure in figures}
    for done in reproduce(figures, by_name, RAY, new_stop(), lambda *_: None):
        pieces = done.figure.pieces(options)
        wanted = done.figure.outcome(options, {piece.name: piece.compute() for piece in pieces})
        assert isinstance(done.outcome, Outcome)
        assert done.outcome.files(done.figure.name) == wanted.files(done.figure.name)


def fleets_are_those_of_processes() -> None:
    cases = [Case(make_setup(router), None, (2, 3)) for router in ("round-robin", "least-outstanding")]
    found = [dict(outcomes(cases, workers, new_stop())) for workers in (RAY, HERE)]
    assert found[0] == found[1]
    assert [len(found[0][number]) for number in range(2)] == [2, 2]


def a_worker_with_another_program_gets_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagedbench.runs.ray_tasks.code_digest", lambda: "of other files")
    with pytest.raises(ConfigError, match="a worker of Ray imports another pagedbench"):
        list(in_workers(work, ["a"], RAY, new_stop()))
