"""A sweep keeps what is done, makes again what is not, refuses what differs, and leaves no gaps."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pagedbench.config import ConfigError, RunConfig
from pagedbench.plan import make_plan
from pagedbench.runs.cell import Cell, cell_names, run_cell
from pagedbench.runs.parallel import Failure
from pagedbench.runs.result import identity_of
from pagedbench.runs.traces import trace_of
from pagedbench.tools.sweep.sweep import COLUMNS, Sweep
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = RunConfig(model="opt-13b", device="sim:a100-40gb", duration=10.0)


def make_cell(folder: Path, **options: object) -> Cell:
    plan = make_plan(replace(CONFIG, **options))
    trace = trace_of(plan, load_dataset("sharegpt"))
    (name,) = cell_names([plan], [trace])
    return Cell(name, plan, trace, folder / name, save_outputs=False, command="pagedbench sweep")


def run(sweep: Sweep, cell: Cell) -> None:
    sweep.take(cell, run_cell(cell, threading.Event()))


def test_names_are_the_cells_own() -> None:
    configs = [CONFIG, replace(CONFIG, rate=0.5, n=2, temperature=1.0, block_size=8, preemption="swap")]
    plans = [make_plan(config) for config in configs]
    traces = [trace_of(plan, load_dataset("sharegpt")) for plan in plans]
    assert cell_names(plans, traces) == ["paged_sharegpt_r2_s0", "paged_sharegpt_r0.5_s0_n2_b8_swap"]
    twice = cell_names([plans[0], plans[0]], [traces[0], replace(traces[1], name="sharegpt")])
    assert len(set(twice)) == 2
    assert twice[0] == f"paged_sharegpt_r2_s0_{traces[0].sha256[:8]}"


def test_complete_cells_are_kept_and_others_made_again(tmp_path: Path) -> None:
    cells = [make_cell(tmp_path, rate=rate) for rate in (1.0, 2.0, 3.0, 4.0)]
    first = Sweep(tmp_path, cells)
    for cell in cells[:3]:
        run(first, cell)
    manifest = json.loads((cells[1].folder / "manifest.json").read_text())
    (cells[1].folder / "manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))
    (cells[2].folder / "steps.csv").unlink()
    remains = tmp_path / f".{cells[3].name}.incomplete-{10**9}"  # no process has such a number
    remains.mkdir()
    again = Sweep(tmp_path, cells)
    again.find_done()
    assert again.pending == cells[1:]
    before = (cells[0].folder / "manifest.json").read_bytes()
    for cell in again.pending:
        run(again, cell)
    assert not remains.exists()
    assert (cells[0].folder / "manifest.json").read_bytes() == before
    assert [row["status"] for row in again.rows()] == ["complete"] * 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"duration": 11.0}, "--duration 10.0, not 11.0"),
        ({"kv_slots": 8000}, "--kv-slots 15696, not 8000"),
        ({"shared_prefix_len": 16}, "--shared-prefix-len 0, not 16"),
    ],
)
def test_a_cell_with_other_options_is_refused(
    tmp_path: Path, options: dict[str, object], words: str
) -> None:
    cell = make_cell(tmp_path)
    run(Sweep(tmp_path, [cell]), cell)
    with pytest.raises(ConfigError, match=words):
        Sweep(tmp_path, [make_cell(tmp_path, **options)]).find_done()
    Sweep(tmp_path, [make_cell(tmp_path, label="a name")]).find_done()


def test_a_cell_of_other_requests_or_step_times_is_refused(tmp_path: Path) -> None:
    cell = make_cell(tmp_path)
    run(Sweep(tmp_path, [cell]), cell)
    trace = replace(cell.trace, requests=cell.trace.requests[:-1])
    with pytest.raises(ConfigError, match="other requests of sharegpt"):
        Sweep(tmp_path, [replace(cell, trace=trace)]).find_done()
    manifest = json.loads((cell.folder / "manifest.json").read_text())
    manifest["plan"]["cost_model"] = "a guess"
    (cell.folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="other step times"):
        Sweep(tmp_path, [cell]).find_done()


def test_every_cell_has_a_row(tmp_path: Path) -> None:
    cells = [make_cell(tmp_path, rate=rate) for rate in (1.0, 2.0, 3.0)]
    sweep = Sweep(tmp_path, cells)
    run(sweep, cells[0])
    sweep.take(cells[1], Failure("its process died"))
    done, failed, missing = sweep.rows()
    assert all(list(row) == list(COLUMNS) for row in (done, failed, missing))
    assert (done["status"], done["num_requests"]) == ("complete", len(cells[0].trace.requests))
    assert (failed["status"], failed["reason"]) == ("failed", "its process died")
    assert (missing["status"], missing["normalized_latency_mean_s"]) == ("not run", None)
    for row, cell in zip((done, failed, missing), cells, strict=True):
        assert row == row | identity_of(cell.plan, cell.trace)
        assert (row["rate"], row["kv_slots"]) == (cell.plan.config.rate, 15_696)
        assert row["trace_sha256"] == cell.trace.sha256
    sweep.write_table()
    lines = (tmp_path / "sweep.csv").read_text().splitlines()
    assert len(lines) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == [cells[0].name, "sweep.csv"]


def test_a_crash_is_kept_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pagedbench.simulation.executor import Simulated

    def crash(self: Simulated, batch: object) -> None:
        raise RuntimeError("no more")

    monkeypatch.setattr(Simulated, "execute", crash)
    cell = make_cell(tmp_path)
    sweep = Sweep(tmp_path, [cell])
    run(sweep, cell)
    (row,) = sweep.rows()
    assert row["status"] == "crashed"
    assert "RuntimeError: no more" in row["reason"]
    again = Sweep(tmp_path, [cell])
    again.find_done()
    assert again.pending == [cell]
