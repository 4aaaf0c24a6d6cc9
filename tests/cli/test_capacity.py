"""`capacity`: the table, the files, and that its answer is the one that `run` gives."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from cli.command import SIMULATED, Answer
from pagedbench.runs.parallel import Failure
from pagedbench.tools.capacity import search
from pagedbench.tools.capacity.report import limit_sentences, seed_sentences

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pagedbench.runs.parallel import Stop
    from pagedbench.tools.capacity.probe import Search
    from pagedbench.tools.capacity.search import Found

    Command = Callable[..., Answer]

SEARCH = ("capacity", *SIMULATED, "--duration", "30", "--tolerance", "0.1", "--jobs", "1")


def test_the_answer_is_that_of_run(pagedbench: Command, here: Path) -> None:
    answer = pagedbench(*SEARCH, "--system", "orca-max", "--bound", "0.2", "--output", "out")
    assert answer.code == 0
    for words in (
        "max rate",
        "orca-max",
        "fragmentation",
        "mean normalized latency <= 0.2 s/token",
        "Runs of 30 s of arrivals.",
    ):
        assert words in answer.out
    (row,) = csv.DictReader((here / "out" / "capacity.csv").read_text().splitlines())
    means = []
    for name in ("capacity", "missed_rate"):
        done = pagedbench(
            "run", *SIMULATED, "--duration", "30", "--system", "orca-max", "--rate", row[name], "--format",
            "json",
        )  # fmt: skip
        means.append(json.loads(done.out)["normalized_latency_mean_s"])
    assert means[0] == pytest.approx(float(row["figure_at_capacity"]))
    assert means[0] <= 0.2 < means[1]
    document = json.loads((here / "out" / "capacity.json").read_text())
    probes = document["capacities"][0]["probes"]
    assert float(row["capacity"]) in [probe["rate"] for probe in probes]
    assert len(probes) == int(row["runs"])


def test_finished_searches_are_kept(
    pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that failed computes the rest when it is given again, and leaves what a whole one does."""
    words = (*SEARCH, "--system", "paged,orca-max", "--bound", "0.2", "--format", "csv")
    whole = pagedbench(*words, "--output", "whole")
    searched, before = [], search.search_capacity

    def fails(asked: Search, stop: Stop) -> Found | Failure | None:
        searched.append(asked.plan.system.name)
        return Failure("no") if searched == ["paged", "orca-max"] else before(asked, stop)

    monkeypatch.setattr(search, "search_capacity", fails)
    part = pagedbench(*words, "--output", "part")
    assert part.code == 1
    assert "Finished parts are kept: the same command with --output part computes" in part.err
    assert len(part.out.splitlines()) == 2
    assert pagedbench(*words, "--tolerance", "0.2", "--output", "other").code == 0
    assert searched == ["paged", "orca-max", "paged", "orca-max"]
    again = pagedbench(*words, "--output", "part")
    assert again.code == 0
    assert searched[4:] == ["orca-max"]
    assert again.out == whole.out
    assert sorted(path.name for path in (here / "part").iterdir()) == ["capacity.csv", "capacity.json"]
    assert "not empty" in pagedbench(*words, "--output", "part").sentence


def test_an_slo_bounds_the_means_and_a_share_bounds_requests(pagedbench: Command) -> None:
    slo = ("--system", "paged", "--slo", "normalized_latency:0.2s", "--format", "json")
    mean = json.loads(pagedbench(*SEARCH, *slo).out)[0]
    assert mean["criterion"] == "mean normalized latency <= 0.2 s/token"
    bound = json.loads(pagedbench(*SEARCH, "--system", "paged", "--bound", "0.2", "--format", "json").out)[
        0
    ]
    assert bound["capacity"] == mean["capacity"]
    share = json.loads(pagedbench(*SEARCH, *slo, "--attainment", "0.9").out)[0]
    assert share["criterion"] == "normalized latency <= 0.2 s/token for 90 % of requests"
    assert share["figure_at_capacity"] >= 0.9


def test_several_systems_in_processes(pagedbench: Command) -> None:
    answer = pagedbench(*SEARCH[:-2], "--system", "paged,orca-max", "--jobs", "2", "--format", "md")
    assert answer.code == 0
    assert "[2/2]" in answer.err
    lines = answer.out.splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["| system", "| ---", "| paged", "| orca-max"]
    ratios = [line.split(" | ")[3] for line in lines]
    assert (ratios[0], ratios[2]) == ("paged / this", "1.00x")
    assert float(ratios[3].removesuffix("x")) > 1.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rate", "1,2"), "capacity finds the rate itself"),
        (("--rate", "inf", "--num-requests", "9"), "--rate inf has no meaning"),
        (("--find", "memory"), "--find is one of rate, kv-memory, not 'memory'"),
        (("--arrival", "trace", "--rate", "2"), "--rate has no effect on --arrival trace"),
        (("--arrival", "trace"), "has no timestamps"),
        (("--time-scale", "2"), "--time-scale multiplies a trace's own times"),
        (("--bound", "0.5,x"), "--bound takes seconds per token"),
        (("--bound", "0.5", "--slo", "ttft:1s"), "give one of the two"),
        (("--slo", "ttft"), "--slo cannot be read"),
        (("--attainment", "2"), "--attainment must be above 0"),
        (("--tolerance", "0"), "--tolerance must be above 0"),
        (("--save-outputs",), "--save-outputs has no effect"),
        (("--label", "x"), "--label has no effect"),
    ],
)
def test_refusals(pagedbench: Command, here: Path, arguments: tuple[str, ...], words: str) -> None:
    answer = pagedbench("capacity", *SIMULATED, *arguments)
    assert answer.code == 2
    assert words in answer.sentence
    assert list(here.iterdir()) == []


def test_the_least_pool_is_that_of_run(pagedbench: Command, here: Path) -> None:
    search = (*SEARCH, "--find", "kv-memory", "--system", "paged,orca-max", "--rate", "1", "--bound", "0.1")
    answer = pagedbench(*search, "--output", "out")
    assert answer.code == 0
    for words in ("least", "this /", "at 1.00 requests/s", "pool"):
        assert words in answer.out
    rows = list(csv.DictReader((here / "out" / "capacity.csv").read_text().splitlines()))
    for row in rows:
        means = []
        for name in ("kv_slots", "missed_kv_slots"):
            done = pagedbench(
                "run", *SIMULATED, "--duration", "30", "--rate", "1", "--system", row["system"],
                "--kv-slots", row[name], "--format", "json",
            )  # fmt: skip
            means.append(json.loads(done.out)["normalized_latency_mean_s"])
        assert means[0] == pytest.approx(float(row["figure_at_capacity"]))
        assert means[0] <= 0.1 < means[1]
        assert int(row["kv_slots"]) == 16 * int(row["kv_blocks"])
        assert float(row["kv_memory_gib"]) == pytest.approx(int(row["kv_slots"]) * 819_200 / 2**30)
        assert row["capacity"] == ""
    assert 1.5 * int(rows[0]["kv_slots"]) < int(rows[1]["kv_slots"])


def test_a_trace_is_sped_up(pagedbench: Command, here: Path) -> None:
    lines = "".join(f"100,50,{1.5 * number}\n" for number in range(40))
    (here / "timed.csv").write_text(f"prompt_len,output_len,arrival_s\n{lines}", encoding="utf-8")
    timed = (*SIMULATED, "--arrival", "trace", "--trace", "timed.csv", "--system", "paged")
    slo = ("--slo", "e2el:2s", "--attainment", "0.9", "--tolerance", "0.1", "--jobs", "1")
    answer = pagedbench("capacity", *timed, *slo, "--output", "out")
    assert answer.code == 0
    (row,) = csv.DictReader((here / "out" / "capacity.csv").read_text().splitlines())
    scale = float(row["time_scale"])
    assert scale < 1
    assert float(row["capacity"]) == pytest.approx(40 / (39 * 1.5 * scale))
    assert f"--time-scale {scale:g}" in answer.out
    assert "Runs of 40 requests." in answer.out
    done = pagedbench(
        "run", *timed, "--time-scale", row["time_scale"], "--slo", "e2el:2s", "--format", "json"
    )
    assert json.loads(done.out)["slo_attainment"] == pytest.approx(float(row["figure_at_capacity"]))
    assert float(row["figure_at_capacity"]) >= 0.9


def test_requests_that_all_arrive_at_once_have_no_rate(pagedbench: Command, here: Path) -> None:
    (here / "timed.csv").write_text("prompt_len,output_len,arrival_s\n9,9,0\n9,9,0\n", encoding="utf-8")
    answer = pagedbench("capacity", *SIMULATED, "--arrival", "trace", "--trace", "timed.csv")
    assert (answer.code, "arrive at once" in answer.sentence) == (2, True)


def row(system: str, seed: int, capacity: float) -> dict[str, object]:
    identity = {"trace": "sharegpt", "n": 1, "beam_width": None, "block_size": 16, "preemption": "auto"}
    return {
        **identity, "system": system, "seed": seed, "capacity": capacity, "missed_rate": 1.1 * capacity,
        "find": "rate", "criterion": "c", "limit_detail": "full",
    }  # fmt: skip


def test_seeds_are_summed_up() -> None:
    rows = [row("paged", 0, 2.0), row("paged", 1, 3.0), row("orca-max", 0, 1.0)]
    assert seed_sentences(rows) == ["paged: 2.50 requests/s on average over 2 seeds, from 2.00 to 3.00."]
    assert limit_sentences(rows) == [
        "paged at 3.30 requests/s: full.",
        "orca-max at 1.10 requests/s: full.",
    ]
