"""`run --save-events` and `view`: the files they leave, and what they refuse."""

from __future__ import annotations

import base64
import json
import re
import shutil
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from cli.command import SIMULATED, Answer, make_command
from pagedbench.runs.saved import load_run
from pagedbench.tools.view import content
from pagedbench.tools.view.content import encoded, page_content
from pagedbench.tools.view.page import html_page
from tools.view.runs import saved_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Answer]

COLUMNS = ["step", "t_s", "event", "block", "request_id", "sequence", "tokens", "tier"]


@pytest.fixture
def pagedbench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    monkeypatch.chdir(tmp_path)
    return make_command(capsys)


@pytest.fixture
def run(recomputing: Path, tmp_path: Path) -> Path:
    """A copy, which a test may change."""
    return shutil.copytree(recomputing, tmp_path / "run")


def test_events_are_a_table_that_notebooks_can_read(recomputing: Path) -> None:
    events = pd.read_parquet(recomputing / "events.parquet")
    assert list(events) == COLUMNS
    counts = events["event"].value_counts()
    steps, preemptions = load_run(recomputing).steps, load_run(recomputing).preemptions
    assert preemptions is not None
    assert counts["preempt"] == len(preemptions) > 0
    assert counts["allocate"] + counts["share"] + counts["hit"] == counts["free"]
    assert counts["evict"] > 0
    assert set(events["tier"].dropna()) == {"device"}
    before = events[events["event"] == "preempt"]
    assert before["t_s"].to_numpy() == pytest.approx(preemptions["t_s"].to_numpy(), abs=1e-8)
    assert before["request_id"].tolist() == preemptions["victim_request_id"].tolist()
    assert events["step"].max() == steps["step"].max()


def test_equal_runs_leave_equal_bytes_and_no_events_unless_asked(tmp_path: Path, recomputing: Path) -> None:
    saved_run(tmp_path / "again", prefix_caching=True)
    name = "events.parquet"
    assert (tmp_path / "again" / name).read_bytes() == (recomputing / name).read_bytes()
    saved_run(tmp_path / "without", prefix_caching=True, save_events=False)
    assert not (tmp_path / "without" / name).exists()
    for table in ("requests.csv", "steps.csv", "preemptions.csv"):
        assert (tmp_path / "without" / table).read_bytes() == (recomputing / table).read_bytes()


def test_a_sweep_saves_events_too(pagedbench: Command, tmp_path: Path) -> None:
    words = (*SIMULATED, "--duration", "4", "--seed", "0,1", "--save-events", "--progress", "none")
    assert pagedbench("sweep", *words, "--jobs", "1", "--output", "study").code == 0
    assert len(list(tmp_path.glob("study/*/events.parquet"))) == 2


def test_capacity_saves_no_events(pagedbench: Command) -> None:
    answer = pagedbench("capacity", *SIMULATED, "--bound", "0.5", "--save-events")
    assert (answer.code, "--save-events has no effect on capacity" in answer.sentence) == (2, True)


def test_the_page_is_one_file_without_any_outside_resource(recomputing: Path) -> None:
    page = html_page(load_run(recomputing))
    assert not re.search(r"(?:src|href)\s*=|url\(|@import|https?://|fetch\(", page)
    assert "@" not in re.sub(r"@media", "", page.partition('id="data"')[0])
    assert page.count("</script>") == 2


def decoded(column: dict[str, Any]) -> np.ndarray[Any, Any]:
    data = zlib.decompress(base64.b64decode(column["data"]))
    values = np.frombuffer(data, dtype=f"<{column['kind']}")
    return np.cumsum(values, dtype=np.int64) if column["is_delta"] else values


@pytest.mark.parametrize(
    "values", [[], [0], [3, 3, 70_000], [5, 1, 0], [-1, 4], [300, -200], [0.5, float("nan")]]
)
def test_columns_survive_their_encoding(values: list[float]) -> None:
    is_real = any(isinstance(value, float) for value in values)
    column = np.array(values, dtype=np.float32 if is_real else np.int64)
    np.testing.assert_array_equal(decoded(encoded(column)), column)


def test_what_is_left_out_is_said(recomputing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run(recomputing)
    assert not any("Thinned" in note for note in page_content(run)["notes"])
    for name in ("MAX_RECTANGLES", "MAX_STEPS", "MAX_MARKS"):
        monkeypatch.setattr(content, name, 20)
    notes = " ".join(page_content(run)["notes"])
    assert re.search(r"the 20 largest rectangles are drawn; the others, [\d.]+ % of blocks x time", notes)
    assert "the curves show 20 of " in notes
    assert "the first 20 of " in notes


def test_view_writes_beside_the_run_and_replaces_only_by_force(pagedbench: Command, run: Path) -> None:
    answer = pagedbench("view", "run")
    assert (answer.code, answer.out) == (0, "Saved to run/view.html\n")
    assert "run/view.html exists" in pagedbench("view", "run").sentence
    assert pagedbench("view", "run", "--force").code == 0
    assert pagedbench("view", "run", "--output", "other.json").code == 0
    assert "traceEvents" in json.loads((run.parent / "other.json").read_text())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nowhere",), "there is no folder nowhere"),
        (("run", "--format", "png"), "--format is one of html, perfetto"),
        (("run", "--output", "picture.png"), "--output must end in .html or .json"),
    ],
)
def test_wrong_usage_is_code_2(
    pagedbench: Command, run: Path, words: tuple[str, ...], sentence: str
) -> None:
    answer = pagedbench("view", *words)
    assert answer.code == 2
    assert sentence in answer.sentence


def test_events_that_are_missing_or_damaged_are_said(pagedbench: Command, run: Path) -> None:
    path = run / "events.parquet"
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[: len(whole) // 2], b"not parquet at all"):
        path.write_bytes(damaged)
        answer = pagedbench("view", "run")
        assert answer.code == 2
        assert "run/events.parquet cannot be read" in answer.sentence
    pd.DataFrame({"a": [1]}).to_parquet(path)
    assert "is not a file of events" in pagedbench("view", "run").sentence
    path.unlink()
    assert (
        pagedbench("view", "run").sentence == "run has no events.parquet: run it again with --save-events"
    )


def test_a_full_disk_is_one_sentence(
    pagedbench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pyarrow.parquet, "write_table", fail)
    answer = pagedbench("run", *SIMULATED, "--duration", "4", "--save-events", "--output", "run")
    assert answer.code == 1
    assert "could not be saved in run: no space left on device" in answer.err
    assert list(tmp_path.iterdir()) == []
