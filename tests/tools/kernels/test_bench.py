"""How cases are timed: checked first, in turns, with ratios taken within a round."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from pagedbench.runs.stopwatch import WallStopwatch
from pagedbench.tools.kernels.bench import COLUMNS, MAX_TRIES, MIN_ROUNDS, KernelBench
from pagedbench.tools.kernels.cases import TORCH, Accuracy, Case, Form, Variant, Work, WrongOutput
from pagedbench.tools.kernels.machine_limits import MachineLimits
from pagedbench.tools.kernels.options import OPS
from pagedbench.tools.kernels.plan import MAX_TOKENS, OPERATIONS, Operation, Planned, plan_cases
from tools.kernels.small import shorter, small_setup, spoiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.tools.kernels.cases import Setup


class ScriptedStopwatch:
    """Calls nothing; a machine that gets slower with every round, up to a time."""

    def __init__(self, times: dict[str, float], factor: float, num_slower: int = 100) -> None:
        self.times = times
        self.factor, self.num_slower = factor, num_slower
        self.samples: list[tuple[str, range]] = []

    def seconds(self, run: Callable[[int], object], calls: range, num_sets: int) -> float:
        name = str(run(-1))
        self.samples.append((name, calls))
        round_number = (len(self.samples) - 1) // len(self.times)
        if round_number > self.num_slower:
            return self.times[name] * len(calls)
        return self.times[name] * len(calls) * self.factor**round_number


class ScriptedProbe:
    """Memory is slow before a case and fast after it; arithmetic the other way round."""

    def __init__(self) -> None:
        self.found = itertools.cycle([MachineLimits(1e9, 4e9), MachineLimits(2e9, 3e9)])

    def measure(self) -> MachineLimits:
        return next(self.found)


def scripted_case(setup: Setup, batch: int, context: int) -> Case:
    def variant(kernels: str, form: Form) -> Variant:
        return Variant(kernels, form, lambda number: f"{kernels} {form}")

    variants = (
        variant("native", Form.CONTIGUOUS),
        variant("native", Form.PAGED),
        variant(TORCH, Form.DENSE),
    )
    work, right = Work(2000, 1000), Accuracy(0.5, 1.0)
    return Case("decode", batch, context, "4/4x8", work, 3, variants, lambda variant: right)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATIONS, "decode", Operation(scripted_case, lambda b, c: [], lambda s, b, c: 0))


TIMES = {"native contiguous": 1e-4, "native paged": 1.1e-4, "torch dense": 4e-4}


def scripted_bench(
    rounds: int = 5, sample_time: float = 4e-4, factor: float = 1.5, num_slower: int = 100
) -> tuple[KernelBench, ScriptedStopwatch]:
    stopwatch = ScriptedStopwatch(TIMES, factor, num_slower)
    bench = KernelBench(small_setup(), ScriptedProbe(), stopwatch, rounds=rounds, sample_time=sample_time)
    return bench, stopwatch


@pytest.mark.usefixtures("scripted")
def test_variants_take_turns_and_operands_rotate() -> None:
    bench, stopwatch = scripted_bench()
    bench.measure(Planned("decode", 2, 9))
    names = [name for name, _ in stopwatch.samples]
    assert names == list(TIMES) * (2 + 5)  # warm-up, one to count by, five rounds
    calls = [call for _, calls in stopwatch.samples for call in calls]
    assert calls == list(range(len(calls)))


@pytest.mark.usefixtures("scripted")
def test_a_drift_of_the_machine_cancels() -> None:
    """Every round is slower than the one before; the ratios stay."""
    bench, _ = scripted_bench()
    contiguous, paged, dense = bench.measure(Planned("decode", 2, 9))
    assert paged.over_contiguous == pytest.approx(1.1)
    assert paged.over_torch == pytest.approx(0.275)
    assert contiguous.over_contiguous is None
    assert contiguous.over_torch == pytest.approx(0.25)
    assert dense.over_torch is None


@pytest.mark.usefixtures("scripted")
def test_figures_of_a_row() -> None:
    bench, _ = scripted_bench(rounds=1, factor=2.0)
    row = bench.measure(Planned("decode", 2, 9))[0]
    seconds = 4e-4  # round 2 of a machine that halves its pace
    assert row.time_median_us == pytest.approx(1e6 * seconds)
    assert row.gb_per_s == pytest.approx(2000 / seconds / 1e9)
    assert row.gflop_per_s == pytest.approx(1000 / seconds / 1e9)
    assert (row.limit_gb_per_s, row.limit_gflop_per_s, row.bound) == (2.0, 4.0, "memory")
    assert row.share_pct == pytest.approx(100 * 1e-6 / seconds)
    assert (row.rounds, row.calls_per_round, row.max_error) == (1, 2, 0.5)
    assert len(COLUMNS) == len(set(COLUMNS)) == 25


@pytest.mark.usefixtures("scripted")
def test_a_disturbed_case_is_timed_again() -> None:
    """During the warm-up, the counting and five rounds the machine gets slower and slower."""
    bench, stopwatch = scripted_bench(factor=2.0, num_slower=6)
    rows = bench.measure(Planned("decode", 2, 9))
    assert [row.disturbed for row in rows] == [None] * 3
    assert [row.time_median_us for row in rows] == pytest.approx([100, 110, 400])
    assert len(stopwatch.samples) == 3 * 2 * (2 + 5)


@pytest.mark.usefixtures("scripted")
def test_a_case_that_stays_disturbed_is_marked_and_not_rated() -> None:
    bench, stopwatch = scripted_bench(rounds=MIN_ROUNDS, factor=4.0)
    for row in bench.measure(Planned("decode", 2, 9)):
        assert row.disturbed == "the median is 4 times the minimum"
        assert (row.share_pct, row.over_contiguous, row.over_torch) == (None, None, None)
        assert row.time_median_us > 3 * row.time_min_us
    assert len(stopwatch.samples) == 3 * MAX_TRIES * (2 + MIN_ROUNDS)


@pytest.mark.usefixtures("scripted")
def test_more_than_the_limit_is_a_disturbed_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIMES, "native paged", 1e-7)
    bench, _ = scripted_bench(rounds=1, factor=1.0)
    contiguous, paged, _ = bench.measure(Planned("decode", 2, 9))
    assert (contiguous.disturbed, paged.disturbed) == (None, "1000 % of the limit")
    assert contiguous.share_pct == pytest.approx(1.0)
    assert (paged.share_pct, paged.over_contiguous) == (None, None)


@pytest.mark.usefixtures("scripted")
def test_long_cases_get_few_rounds() -> None:
    bench, stopwatch = scripted_bench(rounds=1000, sample_time=5.0)
    assert bench.measure(Planned("decode", 2, 9))[0].rounds == MIN_ROUNDS
    assert len(stopwatch.samples) == 3 * (2 + MIN_ROUNDS)


def test_wrong_outputs_are_not_timed() -> None:
    stopwatch = ScriptedStopwatch({}, 1.0)
    setup = small_setup(kernels=(spoiled(attend_decode=shorter),))
    bench = KernelBench(setup, ScriptedProbe(), stopwatch, rounds=1, sample_time=0.0)
    with pytest.raises(WrongOutput, match="decode by spoiled, contiguous is wrong at batch 2"):
        bench.measure(Planned("decode", 2, 20))
    assert not stopwatch.samples


def test_a_real_case() -> None:
    bench = KernelBench(small_setup(), ScriptedProbe(), WallStopwatch(), rounds=2, sample_time=0.0)
    rows = bench.measure(Planned("decode", 2, 20))
    assert [(row.kernels, row.form, row.block_size) for row in rows] == [
        ("reference", "contiguous", None),
        ("reference", "paged", 1),
        ("reference", "paged", 16),
        ("torch", "dense", None),
    ]
    assert all(0 < row.time_min_us <= row.time_median_us for row in rows)


def test_the_command_knows_every_op() -> None:
    assert tuple(OPERATIONS) == OPS


def test_sizes_of_the_ops() -> None:
    kept, left_out = plan_cases(["decode", "write", "argmax"], [1, 8], [1, 64])
    sizes = {op: [(case.batch, case.context) for case in kept if case.op == op] for op in OPERATIONS}
    assert sizes["decode"] == [(1, 1), (8, 1), (1, 64), (8, 64)]
    assert sizes["write"] == [(1, 1), (8, 1), (1, 64)]
    assert sizes["argmax"] == [(1, 1), (8, 1)]
    assert not left_out


def test_only_decode_may_be_larger_than_an_iteration() -> None:
    both, _ = plan_cases(["decode", "norm"], [1], [8], ["auto", "int8"])
    assert [(case.op, case.kv_dtype) for case in both] == [
        ("decode", "auto"),
        ("decode", "int8"),
        ("norm", "auto"),
        ("norm", "auto"),
    ]
    kept, left_out = plan_cases(["decode", "prefill"], [1, 8], [MAX_TOKENS])
    assert [(case.op, case.batch) for case in kept] == [("decode", 1), ("decode", 8), ("prefill", 1)]
    assert [(case.op, case.batch) for case in left_out] == [("prefill", 8)]


def test_memory_of_a_case_covers_its_pools() -> None:
    setup = small_setup(block_sizes=(128,))
    for op in OPERATIONS:
        few, many = (Planned(op, batch, 64).num_bytes(setup) for batch in (1, 4000))
        assert few >= setup.footprint
        assert many > few
    pool = 4000 * 128 * setup.kv_row_bytes  # a context of 64 takes a whole block of 128
    assert Planned("decode", 4000, 64).num_bytes(setup) > 2 * pool
