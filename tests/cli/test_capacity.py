"""`capacity`: the table, the files, and that its answer is the one that `run` gives."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from cli.command import SIMULATED, Answer
from pagedbench.report.capacity import limit_sentences, seed_sentences

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Answer]

SEARCH = ("capacity", *SIMULATED, "--duration", "60", "--tolerance", "0.1", "--jobs", "1")


def test_the_answer_is_that_of_run(pagedbench: Command, here: Path) -> None:
    answer = pagedbench(*SEARCH, "--system", "orca-max", "--bound", "0.2", "--output", "out")
    assert answer.code == 0
    for words in ("sustains", "orca-max", "fragmentation", "mean normalized latency <= 0.2 s/token"):
        assert words in answer.out
    (row,) = csv.DictReader((here / "out" / "capacity.csv").read_text().splitlines())
    means = []
    for name in ("capacity", "missed_rate"):
        done = pagedbench(
            "run", *SIMULATED, "--duration", "60", "--system", "orca-max", "--rate", row[name], "--format",
            "json",
        )  # fmt: skip
        means.append(json.loads(done.out)["normalized_latency_mean_s"])
    assert means[0] == pytest.approx(float(row["figure_at_capacity"]))
    assert means[0] <= 0.2 < means[1]
    document = json.loads((here / "out" / "capacity.json").read_text())
    probes = document["capacities"][0]["probes"]
    assert float(row["capacity"]) in [probe["rate"] for probe in probes]
    assert len(probes) == int(row["runs"])


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
    assert lines[2].endswith("1.00x |")
    assert float(lines[3].split(" | ")[-1].removesuffix("x |")) > 1.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rate", "1,2"), "capacity finds the rate itself"),
        (("--rate", "inf", "--num-requests", "9"), "have no meaning"),
        (("--bound", "0.5,x"), "--bound takes seconds a token"),
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


def row(system: str, seed: int, capacity: float) -> dict[str, object]:
    identity = {"trace": "sharegpt", "n": 1, "beam_width": None, "block_size": 16, "preemption": "auto"}
    return {
        **identity, "system": system, "seed": seed, "capacity": capacity, "missed_rate": 1.1 * capacity,
        "criterion": "c", "limit_detail": "full",
    }  # fmt: skip


def test_seeds_are_summed_up() -> None:
    rows = [row("paged", 0, 2.0), row("paged", 1, 3.0), row("orca-max", 0, 1.0)]
    assert seed_sentences(rows) == ["paged: 2.50 requests/s on average over 2 seeds, from 2.00 to 3.00."]
    assert limit_sentences(rows) == [
        "paged at 3.30 requests/s: full.",
        "orca-max at 1.10 requests/s: full.",
    ]
