"""The formulas of today's kernels, and the committed coefficients against the tables they are fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from pagedbench.simulation.cards import CARDS
from pagedbench.simulation.kernel_times import GemmTimes
from pagedbench.simulation.modern_times import TIMES
from pagedbench.tools.calibrate.kernel_fit import FOLDERS, kernel_errors

H100 = CARDS["h100"]
PLAIN = GemmTimes(0.0, 1.0, 1.0, 30.0, 1.0, 1.0, 1.0, 0.0)
"""No overhead at all, and almost a maximum instead of a sum; splitting never pays."""


def test_a_large_product_takes_its_operations() -> None:
    tokens = np.array([128.0 * 132])
    expected = 2 * tokens[0] * 4096 * 4096 / H100.peak
    assert PLAIN.seconds(tokens, 4096, 4096, H100)[0] == pytest.approx(expected, rel=0.03)


def test_a_product_of_one_row_takes_its_bytes() -> None:
    size = 2 * (4096 * 16384 + 4096 + 16384)
    seconds = PLAIN.seconds(np.ones(1), 4096, 16384, H100)[0]
    assert seconds == pytest.approx(size / H100.bandwidth, rel=0.03)


@pytest.mark.parametrize("card", TIMES)
def test_more_work_never_takes_less(card: str) -> None:
    times, limits = TIMES[card], CARDS[card]
    for batch in (1, 2, 7, 64, 300):
        spans = [
            times.decode.seconds(batch, batch * length, 32, 8, 128, limits)
            for length in (1, 128, 2048, 9000)
        ]
        assert spans == sorted(spans)
    spans = [
        times.prefill.seconds([(0, length)], 32, 8, 128, limits) for length in (1, 16, 129, 2048, 9000)
    ]
    assert spans == sorted(spans)
    whole = times.prefill.seconds([(0, 2048)], 32, 8, 128, limits)
    halves = [times.prefill.seconds([part], 32, 8, 128, limits) for part in ((0, 1024), (1024, 2048))]
    assert whole < sum(halves) < whole + 2 * times.prefill.launch + 0.5 * whole
    assert halves[0] < halves[1]
    sizes = np.geomspace(128, 2**29, 40)
    for reduce in (times.reduce_graph, times.reduce_eager):
        assert (np.diff(reduce.seconds(sizes, 4)) > 0).all()
        assert (reduce.seconds(sizes, 2) < reduce.seconds(sizes, 8)).all()


@pytest.mark.parametrize("card", FOLDERS)
def test_the_committed_coefficients_predict_the_tables(card: str, test_data) -> None:
    errors = kernel_errors(card, TIMES[card], test_data / "operator-times-2026")
    limits = {"gemm": (0.07, 0.35), "decode attention": (0.07, 0.35), "prefill attention": (0.09, 0.35),
              "experts": (0.07, 0.22)}  # fmt: skip
    for kernel, (median, tail) in limits.items():
        assert errors[kernel].median < median
        assert errors[kernel].percentile_95 < tail
    for mode in ("graph", "eager"):
        assert errors[f"all-reduce, {mode}"].median < 0.12
