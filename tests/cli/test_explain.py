"""`explain`: of one run, of two, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.command import SIMULATED, Answer
from pagedbench.cli.app import main

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., Answer]

SHORT = (*SIMULATED, "--duration", "10", "--rate", "4", "--format", "csv")


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "runs"
    with pytest.raises(SystemExit):
        main(["run", *SHORT, "--system", "paged,orca-max", "--output", str(folder)])
    return folder


@pytest.fixture
def runs(made_once: Path, here: Path) -> Path:
    """A copy, which a test may change."""
    return Path(shutil.copytree(made_once, here / "runs"))


PAGED, ORCA = "runs/paged_sharegpt_r4_s0", "runs/orca-max_sharegpt_r4_s0"


def mean_latency(folder: Path) -> float:
    value = json.loads((folder / "summary.json").read_text())["latency"]["e2el_mean_s"]["value"]
    return float(value)


def test_the_parts_add_up_to_the_latency(pagedbench: Command, runs: Path) -> None:
    answer = pagedbench("explain", ORCA, "--format", "json")
    assert (answer.code, answer.err) == (0, "")
    (run,) = json.loads(answer.out)["runs"]
    assert run["mean_latency_s"] == pytest.approx(mean_latency(runs.parent / ORCA), rel=1e-8)
    assert sum(run["parts_s"].values()) == pytest.approx(run["mean_latency_s"], rel=1e-9)
    assert run["parts_s"]["queue_fragmentation"] > 0.2 * run["mean_latency_s"]
    assert run["littles_law"]["error"] < 1e-6


def test_the_table_is_for_people(pagedbench: Command, runs: Path) -> None:
    answer = pagedbench("explain", ORCA)
    assert answer.code == 0
    assert "fragmentation: enough slots were free, not as one piece." in answer.out
    assert "Little's law holds" in answer.out
    assert "unaccounted" not in answer.out
    total = next(line for line in answer.out.splitlines() if line.strip().startswith("end-to-end"))
    assert total.endswith("100.0 %")


def test_the_difference_of_two_runs_by_the_same_parts(pagedbench: Command, runs: Path) -> None:
    answer = pagedbench("explain", PAGED, ORCA, "--format", "csv")
    assert answer.code == 0
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    total = sum(float(row["difference_seconds"]) for row in rows)
    expected = mean_latency(runs.parent / ORCA) - mean_latency(runs.parent / PAGED)
    assert total == pytest.approx(expected, rel=1e-6)
    shown = pagedbench("explain", PAGED, ORCA)
    assert "difference" in shown.out
    shares = [float(share) for share in re.findall(r"(-?[\d.]+) %\s*$", shown.out, flags=re.MULTILINE)]
    assert max(map(abs, shares)) == 100.0  # the sum; single parts are more than all of it here
    largest = max(rows, key=lambda row: float(row["difference_seconds"]))
    assert float(largest["difference_seconds"]) > expected
    (line,) = [line for line in shown.out.splitlines() if f" {largest['label']} " in line]
    assert re.search(r"(\+[\d.]+) +\1 s\s*$", line)
    assert "A part that exceeds the whole difference is given in seconds: others cancel it." in shown.out
    assert "given in seconds" not in pagedbench("explain", PAGED).out
    same = pagedbench("explain", PAGED, PAGED).out
    assert "given in seconds" not in same
    assert pagedbench("explain", PAGED, ORCA, "--format", "md").out.startswith("| mean latency | part |")


def test_other_requests_are_code_6(pagedbench: Command, runs: Path) -> None:
    pagedbench("run", *SHORT, "--seed", "5", "--output", "other")
    answer = pagedbench("explain", PAGED, "other")
    assert answer.code == 6
    assert "trace: sharegpt " in answer.out
    assert pagedbench("explain", PAGED, "other", "--across", "trace").code == 0
    as_json = pagedbench("explain", PAGED, "other", "--format", "json")
    assert (as_json.code, as_json.out) == (6, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("runs",), "holds 2 runs"),
        (("nowhere",), "there is no folder nowhere"),
        ((PAGED, "--across", "trace"), "--across is for two runs"),
        ((PAGED, ORCA, "--across", "seed"), "--across takes"),
        ((PAGED, "--format", "xml"), "--format is one of"),
    ],
)
def test_wrong_usage_is_code_2(
    pagedbench: Command, runs: Path, arguments: tuple[str, ...], words: str
) -> None:
    answer = pagedbench("explain", *arguments)
    assert answer.code == 2
    assert words in answer.sentence


def test_a_run_that_did_not_end_cannot_be_explained(pagedbench: Command, runs: Path) -> None:
    path = runs.parent / PAGED / "manifest.json"
    path.write_text(path.read_text().replace('"status": "complete"', '"status": "interrupted"'))
    answer = pagedbench("explain", PAGED)
    assert answer.code == 2
    assert "was interrupted" in answer.sentence


def test_a_table_without_its_columns_is_said(pagedbench: Command, runs: Path) -> None:
    path = runs.parent / PAGED / "steps.csv"
    path.write_text(path.read_text().replace("kv_unusable", "kv_other"))
    answer = pagedbench("explain", PAGED)
    assert answer.code == 2
    assert "no column kv_unusable" in answer.sentence


@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_when_and_why_requests_were_preempted(pagedbench: Command, here: Path, preemption: str) -> None:
    short_of_memory = (*SHORT, "--kv-slots", "4000", "--preemption", preemption, "--output", "run")
    assert pagedbench("run", *short_of_memory).code == 0
    with (here / "run" / "preemptions.csv").open() as file:
        log = list(csv.DictReader(file))
    with (here / "run" / "requests.csv").open() as file:
        requests = {row["request_id"]: row for row in csv.DictReader(file)}
    with (here / "run" / "steps.csv").open() as file:
        steps = list(csv.DictReader(file))
    assert log[0].keys() == {
        "step", "t_s", "victim_request_id", "cause_request_id", "mode", "blocks_freed", "tokens_lost",
        "resumed_t_s",
    }  # fmt: skip
    for number, row in requests.items():
        own = [item for item in log if item["victim_request_id"] == number]
        assert len(own) == int(row["preemptions"])
    for item in log:
        step = steps[int(item["step"])]
        victim, cause = (requests[item[name]] for name in ("victim_request_id", "cause_request_id"))
        assert (item["t_s"], item["mode"]) == (step["t_s"], preemption)
        assert float(victim["arrival_s"]) >= float(cause["arrival_s"])  # the latest arrival gives way
        assert int(item["blocks_freed"]) > 0
        assert float(item["resumed_t_s"]) > float(item["t_s"])
        assert (int(item["tokens_lost"]) > 0) == (preemption == "recompute")
    answer = pagedbench("explain", "run")
    assert f"paged: {len(log)} preemptions of " in answer.out
    assert "caused by" in answer.out


def test_a_run_without_preemptions_has_no_log(pagedbench: Command, runs: Path) -> None:
    assert not (runs / "orca-max_sharegpt_r4_s0" / "preemptions.csv").exists()
    assert "orca-max: no request was preempted." in pagedbench("explain", ORCA).out
