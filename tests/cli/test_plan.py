"""`plan`: its answer, its files, its determinism, and what it refuses."""

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

SMALL = ("plan", *SIMULATED, "--rate", "5", "--duration", "12")
SLO = ("--slo", "normalized_latency:0.035s")


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_the_least_number_of_replicas(pagedbench: Command, here: Path) -> None:
    price = ("--price", "sim:a100-40gb=2", "--replicas", "1:8", "--jobs", "1")
    busy = ("plan", *SIMULATED, "--rate", "12", "--duration", "12")
    answer = pagedbench(*busy, *SLO, *price, "--seeds", "2", "--output", "out")
    assert answer.code == 0, answer.err
    found = rows_of(here / "out" / "plan.csv")[0]
    fleets = rows_of(here / "out" / "fleets.csv")
    needed = []
    for seed in ("0", "1"):
        is_met = {int(row["replicas"]): row["is_met"] for row in fleets if row["seed"] == seed}
        least = min(size for size, met in is_met.items() if met == "True")
        assert is_met[least - 1] == "False"
        needed.append(least)
    assert [int(found["replicas_min"]), int(found["replicas_max"])] == sorted(needed)
    assert float(found["cost_per_hour"]) == 2 * int(found["replicas"])
    assert f"{found['replicas']} " in answer.out
    assert "x a100-40gb, limited by " in answer.out
    assert json.loads((here / "out" / "plan.json").read_text())["answers"][0]["criterion"]


def test_fleets_of_given_sizes_do_not_depend_on_the_processes(pagedbench: Command, here: Path) -> None:
    words = ("--replicas", "2,3", "--router", "round-robin,kv-use", "--staleness", "0,100ms")
    for jobs in ("1", "2"):
        answer = pagedbench(*SMALL, *words, "--jobs", jobs, "--output", f"out{jobs}", "--format", "csv")
        assert answer.code == 0, answer.err
    one, two = (here / f"out{jobs}" / "fleets.csv" for jobs in ("1", "2"))
    assert one.read_bytes() == two.read_bytes()
    rows = rows_of(one)
    assert [(row["router"], row["staleness_s"], row["replicas"]) for row in rows] == [
        ("round-robin", "0", "2"),
        ("round-robin", "0", "3"),
        ("kv-use", "0", "2"),
        ("kv-use", "0", "3"),
        ("kv-use", "0.1", "2"),
        ("kv-use", "0.1", "3"),
    ]
    pagedbench("run", *SMALL[1:], "--output", "alone")
    pagedbench(*SMALL, "--replicas", "1", "--output", "single")
    alone, single = rows_of(here / "alone" / "summary.csv")[0], rows_of(here / "single" / "fleets.csv")[0]
    for name in ("ttft_p99_ms", "tpot_mean_ms", "normalized_latency_mean_s", "output_throughput"):
        assert float(alone[name]) == pytest.approx(float(single[name]))


def test_apart_and_autoscaled(pagedbench: Command, here: Path) -> None:
    answer = pagedbench(*SMALL, "--disaggregate", "1:1", "--replicas", "1", "--output", "apart")
    assert answer.code == 0, answer.err
    assert float(rows_of(here / "apart" / "fleets.csv")[0]["moved_gib"]) > 0
    words = [
        "--autoscale",
        "kv:0.2",
        "--replicas",
        "1:4",
        "--cold-start",
        "2s",
        "--autoscale-interval",
        "1s",
    ]
    answer = pagedbench(*SMALL, *words, "--output", "scaled")
    assert answer.code == 0, answer.err
    assert 1 < float(rows_of(here / "scaled" / "fleets.csv")[0]["replicas_mean"]) < 4


def test_a_router_of_ones_own(pagedbench: Command, here: Path) -> None:
    (here / "mine.py").write_text(
        "from pagedbench.fleet.routers import Router\n"
        "class Last(Router):\n"
        "    def choose(self, arrival, replicas):\n"
        "        return replicas[-1]\n"
    )
    answer = pagedbench(*SMALL, "--replicas", "2", "--router", "mine:Last", "--output", "out")
    assert answer.code == 0, answer.err
    assert float(rows_of(here / "out" / "fleets.csv")[0]["balance"]) == 2


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "give --slo, the objective, or --replicas"),
        (("--replicas", "0"), "--replicas takes numbers from 1 to 1024"),
        (("--replicas", "5:2"), "above the upper one"),
        (("--replicas", "99999999"), "--replicas takes numbers"),
        (("--replicas", "2", "--router", "round-robbin"), "did you mean round-robin?"),
        (("--replicas", "2", "--staleness", "1s"), "--staleness has no effect on round-robin"),
        (("--replicas", "2", "--router", "kv-use", "--staleness", "-1"), "--staleness takes a time"),
        (("--replicas", "2", "--disaggregate", "1:0"), "--disaggregate takes numbers"),
        (("--replicas", "2", "--disaggregate", "1:1", "--n", "2", "--temperature", "1"), "one sequence"),
        (("--replicas", "2", "--disaggregate", "1:1", "--system", "orca-max"), "--disaggregate needs"),
        (("--replicas", "2", "--transfer-bandwidth", "0"), "--transfer-bandwidth"),
        (("--replicas", "2", "--autoscale", "queue"), "--autoscale needs bounds"),
        (("--replicas", "1:2", "--autoscale", "load"), "--autoscale is queue or kv"),
        (("--replicas", "1:2", "--autoscale", "kv:3"), "at most 1"),
        (("--replicas", "2", "--price", "sim:h100=2"), "--price names sim:h100"),
        (("--replicas", "2", "--price", "sim:a100-40gb=-2"), "--price takes"),
        (("--replicas", "2", "--attainment", "0.9"), "--attainment needs --slo"),
        (("--replicas", "2", "--executor", "slurm"), "--executor is one of local, ray"),
        (("--replicas", "2", "--save-outputs"), "--save-outputs has no effect"),
        (("--replicas", "2", "--device", "cpu", "--model", "opt-125m"), "plan simulates"),
    ],
)
def test_refusals(pagedbench: Command, here: Path, words: tuple[str, ...], part: str) -> None:
    base = SMALL if "--device" not in words else ("plan", "--rate", "5")
    answer = pagedbench(*base, *words)
    assert answer.code == 2
    assert part in answer.sentence
    assert not list(here.iterdir())
