"""Real runs against calibrated ones: thresholds come from the noise, and a shift beyond it fails."""

from __future__ import annotations

import math

import pytest

from pagedbench.metrics.statistics import ALPHA
from pagedbench.metrics.student_t import critical_t
from pagedbench.show.judgement import Outcome
from pagedbench.tools.check.wall import LEAST_THRESHOLD, judge_wall, noise_of

STEADY = {
    "tpot_p50_ms": [20.0, 20.2, 19.8, 20.1, 19.9],
    "ttft_p50_ms": [400.0, 404.0, 396.0, 402.0, 398.0],
    "output_throughput": [500.0, 505.0, 495.0, 502.0, 498.0],
}
NOISY = {"tpot_p50_ms": [20.0, 26.0, 15.0, 23.0, 17.0]}


def shifted(runs: dict[str, list[float]], factor: float) -> dict[str, list[float]]:
    return {name: [factor * value for value in values[::-1]] for name, values in runs.items()}


def test_equal_runs_pass() -> None:
    assert [item.outcome for item in judge_wall(STEADY, shifted(STEADY, 1.0))] == [Outcome.PASSED] * 3


def test_only_the_worse_direction_fails() -> None:
    judged = {item.name: item for item in judge_wall(STEADY, shifted(STEADY, 1.2))}
    assert judged["tpot_p50_ms"].outcome is Outcome.FAILED
    assert "20.0 % worse" in judged["tpot_p50_ms"].message
    assert judged["ttft_p50_ms"].outcome is Outcome.FAILED
    assert judged["output_throughput"].outcome is Outcome.PASSED
    assert judged["tpot_p50_ms"].figures[0].after == pytest.approx(
        1.2 * judged["tpot_p50_ms"].figures[0].before
    )


def test_a_change_within_the_threshold_passes() -> None:
    judged = judge_wall(STEADY, shifted(STEADY, 1.04))
    assert [item.outcome for item in judged] == [Outcome.PASSED] * 3


def test_noise_decides_the_threshold() -> None:
    steady, noisy = noise_of({"tpot_p50_ms": STEADY["tpot_p50_ms"]})[0], noise_of(NOISY)[0]
    assert steady.threshold == pytest.approx(LEAST_THRESHOLD)
    logs = [math.log(value) for value in NOISY["tpot_p50_ms"]]
    centre = sum(logs) / 5
    deviation = math.sqrt(2 * sum((item - centre) ** 2 for item in logs) / 4)
    assert noisy.deviation == pytest.approx(deviation)
    reach = critical_t(1 - ALPHA, 4) * deviation / math.sqrt(5)
    assert noisy.threshold == pytest.approx(math.expm1(reach))
    assert noisy.detectable > noisy.threshold
    assert steady.detectable > steady.threshold


def test_noise_is_not_called_a_regression() -> None:
    judged = judge_wall(NOISY, shifted(NOISY, 1.1))
    assert judged[0].outcome is Outcome.PASSED
    assert "would be detected" in judged[0].message
