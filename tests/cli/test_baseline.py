"""`pagedbench baseline`: save, list, show and calibrate."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Any

import pytest

from pagedbench.config import ConfigError
from pagedbench.loadgen.protocols.api import Api
from pagedbench.metrics.records import RunRecord
from pagedbench.metrics.validity import invalid_reasons
from pagedbench.tools.check import matrix, wall_server
from pagedbench.tools.check import wall_run as wall
from pagedbench.tools.check.baseline_file import NAME, read_baseline
from pagedbench.tools.check.matrix import CASES
from pagedbench.tools.check.wall_run import WALL_METRICS, WALL_RUN
from remote import fake_server
from remote.fake_server import FakeServer, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.command import Answer

RUNS = {
    "tpot_p50_ms": [20.0, 20.2, 19.8],
    "ttft_p50_ms": [400.0, 404.0, 396.0],
    "output_throughput": [500.0, 505.0, 495.0],
}


@pytest.fixture(autouse=True)
def _one_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "CASES", CASES[:1])


def measured(factor: float) -> Callable[..., dict[str, list[float]]]:
    def measure(repeats: int, *rest: Any) -> dict[str, list[float]]:
        return {name: [factor * value for value in values][:repeats] for name, values in RUNS.items()}

    return measure


def test_save_never_replaces_unasked(pagedbench: Callable[..., Answer], here: Path) -> None:
    answer = pagedbench("baseline", "save")
    assert (answer.code, answer.out) == (0, f"Saved 1 case to {NAME}\n")
    assert list(read_baseline(here / NAME).cases) == [CASES[0].name]
    assert pagedbench("baseline", "save").code == 2
    assert pagedbench("baseline", "save", "--force").code == 0
    assert pagedbench("baseline", "save", "--output", ".").code == 2


def test_list_names_both(pagedbench: Callable[..., Answer], here: Path) -> None:
    assert "the package's" in pagedbench("baseline", "list").out
    (here / NAME).write_text("{}")
    answer = pagedbench("baseline", "list")
    assert answer.code == 0
    assert f"{NAME} is not a baseline" in answer.out
    assert "the package's" in answer.out


def test_show_has_every_case(pagedbench: Callable[..., Answer]) -> None:
    answer = pagedbench("baseline", "show")
    assert answer.code == 0
    assert all(case.name in answer.out for case in CASES)
    assert pagedbench("baseline", "show", "--baseline", "nowhere").code == 2


def test_calibrated_runs_are_compared(
    pagedbench: Callable[..., Answer], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pagedbench("baseline", "save")
    monkeypatch.setattr(wall, "measure", measured(1.0))
    answer = pagedbench("baseline", "calibrate", "--repeats", "3")
    assert answer.code == 0
    assert "detectable" in answer.out
    saved = read_baseline(here / NAME)
    assert saved.wall is not None
    assert saved.wall["runs"] == RUNS
    assert list(saved.cases) == [CASES[0].name]
    assert pagedbench("check", "--wall").code == 0
    monkeypatch.setattr(wall, "measure", measured(1.5))
    slower = pagedbench("check", "--wall")
    assert slower.code == 3
    assert "tpot_p50_ms of real runs: 50.0 % worse" in slower.out
    assert pagedbench("baseline", "save", "--force").code == 0  # keeps what was measured
    assert read_baseline(here / NAME).wall == saved.wall


def test_interrupted_real_runs_save_and_judge_nothing(
    pagedbench: Callable[..., Answer], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wall, "measure", lambda *arguments: None)
    assert pagedbench("baseline", "calibrate").code == 130
    assert not (here / NAME).exists()


def test_starved_real_runs_save_and_judge_nothing(
    pagedbench: Callable[..., Answer], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pagedbench("baseline", "save")
    monkeypatch.setattr(wall, "measure", measured(1.0))
    assert pagedbench("baseline", "calibrate").code == 0
    before = (here / NAME).read_bytes()

    def starved(*arguments: Any) -> None:
        raise wall.Starved("This machine was busy.")

    monkeypatch.setattr(wall, "measure", starved)
    answer = pagedbench("baseline", "calibrate")
    assert (answer.code, answer.err) == (5, "Error: nothing is saved: This machine was busy.\n")
    assert (here / NAME).read_bytes() == before
    answer = pagedbench("check", "--wall")
    assert answer.code == 6
    assert "This machine was busy" in answer.out


def test_calibrate_refuses_too_few_runs(pagedbench: Callable[..., Answer]) -> None:
    assert pagedbench("baseline", "calibrate", "--repeats", "0").code == 2
    assert pagedbench("baseline", "calibrate", "--baseline", "nowhere").code == 2


def test_runs_against_a_server_are_compared_with_its_own(
    pagedbench: Callable[..., Answer], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pagedbench("baseline", "save")
    monkeypatch.setattr(wall, "measure", measured(1.0))
    monkeypatch.setattr(wall_server, "measure_server", lambda server, *rest: measured(1.0)(*rest))
    with serving(FakeServer(Api.VLLM)) as fake:
        asked = ("--base-url", fake.base_url, "--model", "opt-125m")
        assert pagedbench("baseline", "calibrate", "--repeats", "3").code == 0
        other = pagedbench("check", "--wall", *asked)
        assert other.code == 6
        assert "our engine, not of a server (" in " ".join(other.out.split())
        assert pagedbench("baseline", "calibrate", "--repeats", "3", *asked).code == 0
        saved = read_baseline(here / NAME).wall
        assert saved is not None
        assert saved["server"] == {"product": "vLLM", "model": fake_server.MODEL}
        assert pagedbench("check", "--wall", *asked).code == 0
        assert pagedbench("check", "--wall").code == 6
        monkeypatch.setattr(wall_server, "measure_server", lambda server, *rest: measured(1.5)(*rest))
        slower = pagedbench("check", "--wall", *asked)
        assert slower.code == 3
        assert "tpot_p50_ms of real runs: 50.0 % worse" in slower.out


def test_a_server_is_sent_the_requests_of_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_time(record: RunRecord) -> list[str]:
        return [
            reason for reason in invalid_reasons(record) if "ms late" not in reason
        ]  # of a busy machine

    monkeypatch.setattr(RunRecord, "invalid_because", property(in_time))
    with serving(FakeServer(Api.VLLM)) as fake:
        found = wall_server.find_wall_server(fake.base_url, "opt-125m")
        runs = wall_server.measure_server(found, 2, Event())
        assert len(fake.asked) == found.job.plan.config.warmup + 2 * len(found.job.trace.requests)
        assert len(found.job.trace.requests) == WALL_RUN.num_requests
    assert runs is not None
    assert {name: len(values) for name, values in runs.items()} == dict.fromkeys(WALL_METRICS, 2)
    with (
        serving(FakeServer(Api.VLLM, error_after=2)) as broken,
        pytest.raises(ConfigError, match="does not answer the warm-up"),
    ):
        wall_server.measure_server(wall_server.find_wall_server(broken.base_url, "opt-125m"), 1, Event())


def test_options_of_a_server_need_it(pagedbench: Callable[..., Answer]) -> None:
    assert "no effect without --wall" in pagedbench("check", "--base-url", "http://localhost:1").err
    assert "no effect without --base-url" in pagedbench("check", "--wall", "--model", "opt-125m").err
    assert pagedbench("baseline", "calibrate", "--base-url", "http://127.0.0.1:9").code == 2
