"""The formulas of today's kernels, and the committed coefficients against the tables they are fitted to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedbench.simulation import kernel_times
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


@given(
    st.sampled_from(sorted(CARDS)),
    st.integers(1, 300),
    st.integers(0, 300_000),
    st.sampled_from([(40, 40, 128), (32, 8, 128), (8, 1, 64), (7, 7, 256)]),
    st.sampled_from([1.0, 0.5, 0.53125]),
)
def test_native_code_gives_the_bits_of_the_formula(
    card: str, number: int, more: int, shape: tuple[int, int, int], share: float
) -> None:
    pytest.importorskip("pagedbench.kernels._costs", exc_type=ImportError)
    decode = TIMES[CARDS[card].kernels].decode
    keys = range(number + more, number + more + 5 * number, number)
    found = decode.series(number, *shape, CARDS[card], share, factor=40.5, rest=0.01)(keys.start, len(keys))
    each = [decode.seconds(number, one, *shape, CARDS[card], share) for one in keys]
    assert found == [40.5 * seconds + 0.01 for seconds in each]


def test_without_native_code_the_formula_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    decode, shape = TIMES["h100"].decode, (32, 8, 128, CARDS["h100"])
    before = decode.series(4, *shape, factor=2.0)(100, 10)
    monkeypatch.setattr(kernel_times, "native_costs", None)
    assert decode.series(4, *shape, factor=2.0)(100, 10) == before
