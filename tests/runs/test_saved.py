"""Saved runs come back as they were, and a folder that is not a whole run is refused in one sentence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pagedbench.config import ConfigError
from pagedbench.runs.result import RunStatus
from pagedbench.runs.saved import load_run, load_runs
from runs.results import make_plain_result, saved, simulated_result

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    result = simulated_result("orca-max")
    run = load_run(saved(result, tmp_path / "a"))
    assert run.values == result.values
    assert (run.status, run.is_complete, run.system, run.rate) == (
        RunStatus.COMPLETE,
        True,
        "orca-max",
        2.0,
    )
    assert run.config["duration"] == 20.0
    assert "label" not in run.config
    times = result.record.latencies
    np.testing.assert_allclose(run.requests["normalized_latency_s"], times.normalized_latency, atol=1e-9)
    for name in ("running", "kv_internal"):
        np.testing.assert_array_equal(run.steps[name], result.record.steps[name])


def test_folders_are_searched_each_run_once(tmp_path: Path) -> None:
    for name in ("b", "a", "inner/c", ".hidden"):
        saved(make_plain_result(), tmp_path / "sweep" / name)
    (tmp_path / "sweep" / "sweep.csv").write_text("cell\n")
    first = tmp_path / "sweep" / "inner" / "c"
    runs = load_runs([first, tmp_path / "sweep"])
    assert [run.folder.name for run in runs] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("manifest.json", None, "lacks manifest.json"),
        ("summary.json", "{", "is damaged"),
        ("summary.json", "[]", "holds no object"),
        ("config.toml", "= 3", "is damaged"),
        ("manifest.json", '{"schema_version": 99}', "schema version 99"),
        ("summary.json", '{"schema_version": 1, "run": {"rate": 2.0}}', "has no figures"),
        ("manifest.json", '{"schema_version": 1, "status": "halfway"}', "is damaged"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    folder = saved(make_plain_result(), tmp_path / "run")
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_runs([tmp_path])
    assert "repeat the run" in str(caught.value)


def test_a_cut_table_is_noticed(tmp_path: Path) -> None:
    folder = saved(simulated_result(), tmp_path / "run")
    path = folder / "steps.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-3]))
    run = load_run(folder)
    with pytest.raises(ConfigError, match="the summary says"):
        _ = run.steps
    (folder / "requests.csv").write_text('"')
    with pytest.raises(ConfigError, match="cannot be read"):
        _ = run.requests


def test_a_path_without_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, words in (("empty", "holds no run"), ("file", "is a file"), ("none", "there is no folder")):
        with pytest.raises(ConfigError, match=words):
            load_runs([tmp_path / name])


def test_an_infinite_rate_is_a_number(tmp_path: Path) -> None:
    folder = saved(make_plain_result(), tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    summary["run"]["rate"] = "inf"
    (folder / "summary.json").write_text(json.dumps(summary))
    assert load_run(folder).rate == float("inf")
