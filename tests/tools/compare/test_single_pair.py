from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from pagedbench.metrics.formulas import find_metric
from pagedbench.runs.pairing import Pair
from pagedbench.tools.compare.single_pair import section_bounds, single_pair_p, widened
from tools.compare.runs import make_run

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.runs.saved import SavedRun

NUM_REQUESTS = 200


def saved(folder: Path, latency: np.ndarray) -> SavedRun:
    folder.mkdir()
    table = pd.DataFrame(
        {
            "request_id": np.arange(len(latency)),
            "arrival_s": np.arange(len(latency)) / 2,
            "tpot_ms": latency,
            "e2el_s": latency,
        }
    )
    table.to_csv(folder / "requests.csv", index=False)
    return make_run({}, folder=folder, completed=len(latency))


@pytest.mark.parametrize("metric", ["tpot_p50_ms", "e2el_mean_s"])
def test_the_interval_holds_the_ratio_and_knows_the_noise(tmp_path: Path, metric: str) -> None:
    draws = np.random.default_rng(3)
    latency = draws.lognormal(3, 0.5, size=NUM_REQUESTS)  # requests differ by more than the runs do
    noise = draws.lognormal(0, 0.05, size=NUM_REQUESTS)
    pair = Pair(saved(tmp_path / "a", latency), saved(tmp_path / "b", 1.1 * latency * noise))
    bounds = section_bounds(find_metric(metric), pair)
    assert bounds is not None
    assert bounds[0] < math.log(1.1) < bounds[1]
    assert bounds[1] - bounds[0] < 0.12  # the same requests are drawn from both runs


def test_the_interval_holds_where_neighbours_depend_on_each_other(tmp_path: Path) -> None:
    """Two systems that serve the same load, each with queues of its own, and no difference on average."""
    draws = np.random.default_rng(5)
    held = 0
    for number in range(60):
        noise = draws.normal(size=(3, 1000))
        for i in range(1, 1000):
            noise[:, i] += 0.97 * noise[:, i - 1]
        load, *own = noise / 4
        sides = [np.exp(load + 0.5 * side) for side in own]
        pair = Pair(*(saved(tmp_path / f"{number}-{i}", side) for i, side in enumerate(sides)))
        bounds = section_bounds(find_metric("e2el_mean_s"), pair)
        held += bounds is None or bounds[0] < 0 < bounds[1]
    assert held >= 0.92 * 60


def test_no_interval_from_one_long_queue_or_an_overloaded_run(tmp_path: Path) -> None:
    rising = np.linspace(1, 9, NUM_REQUESTS)
    pair = Pair(saved(tmp_path / "a", rising), saved(tmp_path / "b", rising[::-1]))
    assert section_bounds(find_metric("e2el_mean_s"), pair) is None
    steady = np.random.default_rng(6).lognormal(size=NUM_REQUESTS)
    pair = Pair(saved(tmp_path / "c", steady), saved(tmp_path / "d", 1.1 * steady))
    assert section_bounds(find_metric("e2el_mean_s"), pair) is not None
    pair.candidate.summary["all"]["overloaded"]["value"] = True
    late = Pair(pair.reference, replace(pair.candidate))
    assert section_bounds(find_metric("e2el_mean_s"), late) is None


def test_equal_runs_have_an_interval_of_one_point(tmp_path: Path) -> None:
    latency = np.random.default_rng(4).lognormal(3, 0.5, size=NUM_REQUESTS)
    latency[::9] = np.nan  # replies of one token
    pair = Pair(saved(tmp_path / "a", latency), saved(tmp_path / "b", latency))
    for metric in ("tpot_p50_ms", "tpot_mean_ms"):
        assert section_bounds(find_metric(metric), pair) == pytest.approx((0, 0), abs=1e-12)


def test_no_interval_for_what_is_not_of_requests(tmp_path: Path) -> None:
    latency = np.ones(NUM_REQUESTS)
    pair = Pair(saved(tmp_path / "a", latency), saved(tmp_path / "b", latency))
    for metric in ("request_throughput", "itl_p99_ms", "itl_max_ms"):
        assert section_bounds(find_metric(metric), pair) is None
    few = Pair(saved(tmp_path / "c", latency[:9]), saved(tmp_path / "d", latency[:9]))
    assert section_bounds(find_metric("tpot_p50_ms"), few) is None


def test_the_p_value_is_where_the_widened_interval_meets_zero() -> None:
    for centre, bounds in ((0.1, (0.02, 0.3)), (0.1, (-0.02, 0.3)), (-0.2, (-0.5, -0.1))):
        p = single_pair_p(centre, bounds)
        assert (p < 0.05) == (bounds[0] > 0 or bounds[1] < 0)
        low, high = widened(bounds, centre, 1 - p)
        assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-9)
    assert widened((1.0, 4.0), 2.0, 0.95) == pytest.approx((1.0, 4.0))
    assert single_pair_p(0.0, (0.0, 0.0)) == 1.0
