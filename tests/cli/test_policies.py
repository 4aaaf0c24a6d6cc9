"""`policies`: its table, its files, its distances and how it ends."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest

from cli.command import SIMULATED, Answer
from pagedbench.runs.parallel import Failure
from pagedbench.tools.policies import curve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pagedbench.runs.parallel import Stop
    from pagedbench.tools.policies.curve import Point, Row

    Command = Callable[..., Answer]

TIGHT = ("policies", *SIMULATED, "--rate", "4", "--duration", "10", "--kv-slots", "3000", "--jobs", "1")


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_victims_beside_their_bounds(pagedbench: Command, here: Path) -> None:
    words = ("--victim", "latest,least-computed", "--seeds", "2", "--save-events", "--output", "out")
    answer = pagedbench(*TIGHT, *words)
    assert answer.code == 0
    assert len(list((here / "out").glob("*/events.parquet"))) == 8
    assert "victims with the shortest rest" in answer.out
    assert "unlimited pool" in answer.out
    assert "paired over 2 seeds" in answer.out
    rows = rows_of(here / "out" / "policies.csv")
    assert [row["bound"] for row in rows] == ["", "", "victims with the shortest rest", "unlimited pool"]
    assert json.loads((here / "out" / "policies.json").read_text())[0]["victim"] == "latest"
    latest, least, oracle, unlimited = rows
    assert float(least["recompute_tax_pct"]) < float(latest["recompute_tax_pct"])
    assert float(unlimited["preemptions_recompute"]) == 0
    expected = float(latest["recompute_tax_pct"]) - float(oracle["recompute_tax_pct"])
    assert float(latest["tax_above_oracle"]) == pytest.approx(expected)
    share = 100 * float(latest["output_throughput"]) / float(unlimited["output_throughput"])
    assert float(latest["throughput_of_unlimited_pct"]) == pytest.approx(share)
    change = float(least["recompute_tax_pct_change_mean"])
    assert change == pytest.approx(float(least["recompute_tax_pct"]) - float(latest["recompute_tax_pct"]))
    low, high = (float(least[f"recompute_tax_pct_change_{end}"]) for end in ("low", "high"))
    assert low < change < high
    runs = {path.name for path in (here / "out").iterdir() if path.is_dir()}
    assert len(runs) == 8
    assert "paged_sharegpt_r4_s1_slots2992_victim-least-computed" in runs


def test_a_row_is_the_run_of_its_options(pagedbench: Command, here: Path) -> None:
    pagedbench(*TIGHT, "--victim", "random", "--seeds", "1", "--output", "out")
    row = rows_of(here / "out" / "policies.csv")[0]
    options = [word for word in TIGHT[1:] if word not in ("--jobs", "1")]
    pagedbench("run", *options, "--victim", "random", "--output", "alone")
    alone = rows_of(here / "alone" / "summary.csv")[0]
    for name in ("output_throughput", "ttft_p99_ms", "preemptions_recompute"):
        assert float(row[name]) == pytest.approx(float(alone[name]), rel=1e-9)
    assert row["recompute_tax_pct_change_mean"] == ""  # the first has no difference from itself


def test_evictions_beside_belady(pagedbench: Command) -> None:
    answer = pagedbench(
        "policies", *SIMULATED, "--trace", "agentic", "--num-requests", "60", "--length-scale", "0.1",
        "--prefix-caching", "--eviction", "lru,fifo", "--kv-slots", "8000", "--jobs", "1", "--seeds", "1",
        "--format", "json",
    )  # fmt: skip
    assert answer.code == 0
    lru, fifo, _, belady, unlimited = json.loads(answer.out)
    assert belady["eviction"] == "belady"
    assert unlimited["evicted_blocks"] == 0 < lru["evicted_blocks"]
    assert lru["hits_below_belady"] == pytest.approx(belady["prefix_hit_pct"] - lru["prefix_hit_pct"])
    assert unlimited["prefix_hit_pct"] >= lru["prefix_hit_pct"]
    assert fifo["eviction"] == "fifo"


def test_a_pool_without_pressure_asks_nobody(pagedbench: Command) -> None:
    quiet = ("--rate", "0.5", "--duration", "10", "--seeds", "1", "--jobs", "1")
    answer = pagedbench("policies", *SIMULATED, *quiet, "--victim", "latest,random")
    assert answer.code == 0
    assert "Nothing was preempted or evicted" in answer.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--seed", "1,2"), "--seed takes one seed"),
        (("--require-slo", "95%", "--slo", "chat"), "--require-slo has no effect"),
        (("--victim", "oldest"), "unknown --victim 'oldest'"),
        (("--system", "orca-max", "--victim", "random,latest"), "--victim has no effect"),
        (("--admission", "prompt-first-chunk"), "without --prefill chunked"),
        (("--eviction", "fifo,lru"), "--eviction has no effect"),
    ],
)
def test_refusals(pagedbench: Command, here: Path, words: tuple[str, ...], sentence: str) -> None:
    answer = pagedbench(*TIGHT, *words, "--output", "out")
    assert answer.code == 2
    assert sentence in answer.sentence
    assert not (here / "out").exists()


def test_equal_commands_leave_equal_tables(pagedbench: Command, here: Path) -> None:
    for name in ("one", "two"):
        pagedbench(*TIGHT, "--victim", "latest,cheapest", "--seeds", "1", "--output", name)
    assert (here / "one" / "policies.csv").read_bytes() == (here / "two" / "policies.csv").read_bytes()


CURVE = (
    "policies",
    "--curve",
    *SIMULATED,
    "--trace",
    "prefix-tree",
    "--length-scale",
    "0.05",
    "--jobs",
    "1",
)


def test_a_curve_over_the_pool(pagedbench: Command, here: Path) -> None:
    """More room finds no less, and with room for everything the engine finds what the cache alone does."""
    answer = pagedbench(*CURVE, "--num-requests", "200", "--output", "out")
    assert answer.code == 0
    rows = rows_of(here / "out" / "curve.csv")
    for policy in ("lru", "belady"):
        found = {
            where: [
                float(row["hit_pct"]) for row in rows if (row["policy"], row["where"]) == (policy, where)
            ]
            for where in ("alone", "engine")
        }
        assert len(found["alone"]) == len(found["engine"]) == 6
        assert found["alone"] == sorted(found["alone"])
        assert found["alone"][-1] == pytest.approx(found["engine"][-1])  # nothing is evicted
        assert found["alone"][0] < found["alone"][-1]
    sizes = [int(row["kv_blocks"]) for row in rows if (row["policy"], row["where"]) == ("lru", "engine")]
    assert sizes == sorted(set(sizes))
    whole = rows_of(here / "out" / "curve-lru.csv")
    shares = [float(row["hit_pct"]) for row in whole]
    assert shares == sorted(shares)
    assert "GiB more than" in answer.out


def test_finished_points_of_a_curve_are_kept(
    pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = ("--kv-slots", "4000,8000", "--eviction", "lru,fifo")
    words = (*CURVE, "--num-requests", "60", *sizes, "--format", "csv")
    whole = pagedbench(*words, "--output", "whole")
    names, before = [], curve.measure

    def fails(point: Point, stop: Stop) -> Row | Failure | None:
        names.append(point.name)
        return Failure("no") if len(names) in (2, 5) else before(point, stop)

    monkeypatch.setattr(curve, "measure", fails)
    assert pagedbench(*words, "--output", "part").code == 1
    again = pagedbench(*words, "--output", "part")
    assert again.code == 0
    assert names[6:] == [names[1], names[4]]
    assert again.out == whole.out
    assert not (here / "part" / ".cells").exists()


def test_a_curve_at_given_sizes(pagedbench: Command) -> None:
    sizes = ("--kv-slots", "4000,8000", "--eviction", "fifo")
    answer = pagedbench(*CURVE, "--num-requests", "60", *sizes, "--format", "json")
    assert answer.code == 0
    rows = json.loads(answer.out)
    assert [(row["policy"], row["where"], row["kv_blocks"]) for row in rows] == [
        ("fifo", where, blocks) for blocks in (250, 500) for where in ("engine", "alone")
    ]
    assert all(row["output_throughput"] for row in rows if row["where"] == "engine")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--seeds", "2"), "--seeds has no effect on --curve"),
        (("--save-events",), "--save-events have no effect on --curve"),
        (("--no-prefix-caching",), "leave out --no-prefix-caching"),
        (("--rate", "1,2"), "--curve takes one workload"),
        (("--victim", "latest,random"), "--curve takes one workload"),
    ],
)
def test_refusals_of_a_curve(pagedbench: Command, words: tuple[str, ...], sentence: str) -> None:
    answer = pagedbench(*CURVE, *words)
    assert answer.code == 2
    assert sentence in answer.sentence


def test_the_header_names_policies_that_are_not_the_defaults(pagedbench: Command) -> None:
    words = ("--duration", "5", "--dry-run")
    assert "Policies" not in pagedbench("run", *SIMULATED, *words).out
    chosen = ("--victim", "cheapest", "--prefix-caching", "--eviction", "s3-fifo")
    assert (
        "Policies      --victim cheapest, --eviction s3-fifo"
        in pagedbench("run", *SIMULATED, *words, *chosen).out
    )


def test_complete_runs_are_kept(pagedbench: Command, here: Path) -> None:
    words = (*TIGHT, "--victim", "latest,random", "--seeds", "1", "--output", "out", "--format", "csv")
    first = pagedbench(*words)
    assert first.code == 0
    missing, *kept = sorted(path for path in (here / "out").iterdir() if path.is_dir())
    before = [(path / "manifest.json").read_bytes() for path in kept]
    (missing / "manifest.json").unlink()
    again = pagedbench(*words)
    assert again.code == 0
    assert again.err.count("complete") == 1
    assert [(path / "manifest.json").read_bytes() for path in kept] == before
    figures = [
        [{**row, "run_id": ""} for row in csv.DictReader(io.StringIO(text.out))] for text in (first, again)
    ]
    assert figures[0] == figures[1]
    other = [word if word != "3000" else "2000" for word in words]
    assert pagedbench(*other).code == 0  # in folders of their own: the size is in their names
    refused = pagedbench(*words, "--duration", "21")
    assert refused.code == 2
    assert "was made with --duration 10.0, not 21.0" in refused.sentence
