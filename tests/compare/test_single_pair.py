from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from compare.runs import make_run
from pagedbench.compare.gate import find_metric
from pagedbench.compare.pairing import Pair
from pagedbench.compare.single_pair import bootstrap_bounds, single_pair_p, widened

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.report.saved import SavedRun

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
    bounds = bootstrap_bounds(find_metric(metric), pair)
    assert bounds is not None
    assert bounds[0] < math.log(1.1) < bounds[1]
    assert bounds[1] - bounds[0] < 0.12  # the same requests are drawn from both runs


def test_equal_runs_have_an_interval_of_one_point(tmp_path: Path) -> None:
    latency = np.random.default_rng(4).lognormal(3, 0.5, size=NUM_REQUESTS)
    latency[::9] = np.nan  # replies of one token
    pair = Pair(saved(tmp_path / "a", latency), saved(tmp_path / "b", latency))
    for metric in ("tpot_p50_ms", "tpot_mean_ms"):
        assert bootstrap_bounds(find_metric(metric), pair) == pytest.approx((0, 0), abs=1e-12)


def test_no_interval_for_what_is_not_of_requests(tmp_path: Path) -> None:
    latency = np.ones(NUM_REQUESTS)
    pair = Pair(saved(tmp_path / "a", latency), saved(tmp_path / "b", latency))
    for metric in ("request_throughput", "itl_p99_ms", "itl_max_ms"):
        assert bootstrap_bounds(find_metric(metric), pair) is None
    few = Pair(saved(tmp_path / "c", latency[:9]), saved(tmp_path / "d", latency[:9]))
    assert bootstrap_bounds(find_metric("tpot_p50_ms"), few) is None


def test_the_p_value_is_where_the_widened_interval_meets_zero() -> None:
    for centre, bounds in ((0.1, (0.02, 0.3)), (0.1, (-0.02, 0.3)), (-0.2, (-0.5, -0.1))):
        p = single_pair_p(centre, bounds)
        assert (p < 0.05) == (bounds[0] > 0 or bounds[1] < 0)
        low, high = widened(bounds, centre, 1 - p)
        assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-9)
    assert widened((1.0, 4.0), 2.0, 0.95) == pytest.approx((1.0, 4.0))
    assert single_pair_p(0.0, (0.0, 0.0)) == 1.0
