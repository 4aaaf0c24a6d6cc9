"""How often comparisons of simulated noise cry wolf, and how often they see one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from pagedbench.tools.compare.comparison import SHOWN, Comparison, compare_sides
from pagedbench.tools.compare.gate import Gate, detectable_harm
from pagedbench.tools.compare.question import DEFAULT_METRICS
from pagedbench.tools.compare.verdicts import Basis, Verdict
from tools.compare.runs import VIRTUAL, WALL, make_run, repeats, side

if TYPE_CHECKING:
    from pagedbench.runs.saved import SavedRun
    from pagedbench.tools.compare.verdicts import Finding

TPOT = "tpot_p50_ms"
A_A_DEVIATION = 0.04
"""Of the log ratio of two runs of the same."""

NOISE = A_A_DEVIATION / 2**0.5
GATE = Gate((TPOT,), threshold=0.05)
CALLED = (Verdict.BETTER, Verdict.WORSE, Verdict.CHANGED)


def noisy_sides(draws: np.random.Generator, slowdown: float, *, pairs: int = 5) -> Comparison:
    """Runs whose metrics scatter by NOISE; the candidate's time per token is `slowdown` times longer."""
    sides = []
    for factor in (1.0, slowdown):
        runs = [
            make_run(
                {name: draws.lognormal(3, NOISE) * (factor if name == TPOT else 1) for name in SHOWN},
                folder=f"{factor}-{index}",
                started=f"2025-01-31T12:{index:02d}:00Z",
            )
            for index in range(pairs)
        ]
        sides.append(side(f"x{factor}", runs))
    return compare_sides(sides[0], sides[1:], threshold=GATE.threshold, gate=GATE)


def test_false_alarms_are_rare() -> None:
    draws = np.random.default_rng(0)
    comparisons = [noisy_sides(draws, 1.0) for _ in range(200)]
    assert sum(bool(item.failures) for item in comparisons) <= 10
    called = [any(f.verdict in CALLED for f in item.findings) for item in comparisons]
    assert 1 <= sum(called) <= 16  # gated or only shown


def test_a_slowdown_of_a_tenth_is_caught() -> None:
    draws = np.random.default_rng(1)
    caught = [bool(noisy_sides(draws, 1.1).failures) for _ in range(200)]
    assert sum(caught) >= 180
    assert not noisy_sides(draws, 0.8).failures  # faster


@pytest.mark.parametrize(("pairs", "noise"), [(5, A_A_DEVIATION), (15, 0.1)])
def test_what_is_said_to_be_detectable_is_detected(pairs: int, noise: float) -> None:
    """With the true deviation of a log ratio; that of one sample scatters around it."""
    shape = np.linspace(-1, 1, pairs)
    shape *= noise / shape.std(ddof=1)
    sample = compare_sides(
        side("a", repeats(TPOT, np.ones(pairs))),
        [side("b", repeats(TPOT, np.exp(shape)))],
        threshold=GATE.threshold,
        gate=GATE,
    )
    (finding,) = [item for item in sample.findings if item.metric.name == TPOT]
    harm = detectable_harm(GATE, finding)
    assert harm is not None
    draws, caught = np.random.default_rng(2), 0
    for _ in range(300):
        values = (1 + harm) * draws.lognormal(0, noise, size=pairs)
        sides = [side("a", repeats(TPOT, np.ones(pairs))), side("b", repeats(TPOT, values))]
        caught += bool(compare_sides(sides[0], sides[1:], threshold=0.05, gate=GATE).failures)
    assert 0.84 <= caught / 300 <= 0.95


def test_noise_that_leaves_no_room_for_a_change_is_no_change() -> None:
    sides = [side("a", repeats(TPOT, [10, 10.1, 9.9, 10])), side("b", repeats(TPOT, [10.1, 10, 9.9, 10]))]
    (finding,) = _of(compare_sides(sides[0], sides[1:], threshold=0.05))
    assert finding.verdict is Verdict.NO_CHANGE
    assert finding.basis is Basis.PAIRS


def test_noise_that_hides_a_change_is_inconclusive() -> None:
    sides = [side("a", repeats(TPOT, [10, 13, 8, 10])), side("b", repeats(TPOT, [12, 9, 11, 10]))]
    (finding,) = _of(compare_sides(sides[0], sides[1:], threshold=0.05))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.repeats is not None
    assert finding.repeats > 50


def test_in_virtual_time_any_change_is_real() -> None:
    runs = [repeats(TPOT, values, device=VIRTUAL) for values in ([10.0, 10.0], [10.0, 10.1])]
    comparison = compare_sides(side("a", runs[0]), [side("b", runs[1])], threshold=0.05, gate=GATE)
    (finding,) = _of(comparison)
    assert (finding.verdict, finding.basis) == (Verdict.WORSE, Basis.EXACT)
    assert not comparison.failures  # real, but not beyond the threshold
    others = [item for item in comparison.findings if item.metric.name != TPOT]
    assert {item.verdict for item in others} == {Verdict.EQUAL}
    assert len(others) > len(SHOWN)


@pytest.mark.parametrize("device", [VIRTUAL, WALL])
@pytest.mark.parametrize(
    ("metric", "factor", "relevance", "verdict"),
    [
        (TPOT, 1.0009, 0.001, Verdict.SAME),
        (TPOT, 0.9991, 0.001, Verdict.SAME),
        (TPOT, 1.0011, 0.001, Verdict.WORSE),
        (TPOT, 0.9989, 0.001, Verdict.BETTER),
        (TPOT, 1.0009, 0.0, Verdict.WORSE),
        (TPOT, 1.009, 0.01, Verdict.SAME),
        ("running_mean", 1.0009, 0.001, Verdict.SAME),
        ("running_mean", 1.0011, 0.001, Verdict.CHANGED),
    ],
)
def test_what_is_not_relevant_is_the_same(
    device: str, metric: str, factor: float, relevance: float, verdict: Verdict
) -> None:
    """However certain: every pair moves alike."""
    values = (10.0, 11.0, 12.0)
    sides = [
        side(name, repeats(metric, [times * value for value in values], device=device))
        for name, times in (("a", 1.0), ("b", factor))
    ]
    comparison = compare_sides(
        sides[0], sides[1:], threshold=0.05, relevance=relevance, gate=GATE, metrics=[metric]
    )
    (finding,) = [item for item in comparison.findings if item.metric.name == metric]
    assert finding.verdict is verdict
    assert comparison.relevance == relevance
    if (metric, verdict) == (TPOT, Verdict.SAME):
        (result,) = comparison.results
        assert result.reason == f"less than {100 * relevance:g} % on average: the same"


def test_exact_changes_that_cancel_are_changes() -> None:
    runs = [repeats(TPOT, values, device=VIRTUAL) for values in ([10.0, 11.0], [11.0, 10.0])]
    (finding,) = _of(compare_sides(side("a", runs[0]), [side("b", runs[1])], threshold=0.05))
    assert finding.verdict is Verdict.CHANGED


@pytest.mark.parametrize("device", [VIRTUAL, WALL])
def test_only_the_metrics_asked_for_and_gated_are_looked_at(device: str) -> None:
    sides = [side(name, repeats("ttft_p50_ms", values, device=device)) for name, values in
             (("a", (10, 11)), ("b", (20, 22)))]  # fmt: skip
    comparison = compare_sides(sides[0], sides[1:], threshold=0.05, gate=GATE, metrics=["e2el_mean_s"])
    assert {item.metric.name for item in comparison.findings} == {TPOT, "e2el_mean_s"}


@pytest.mark.parametrize("is_shared", [False, True])
def test_the_default_gate_keeps_its_false_alarm_rate(is_shared: bool) -> None:
    """Noise of every metric by itself, or the same noise in all of them; any worsening would matter."""
    draws, gate = np.random.default_rng(3), Gate(DEFAULT_METRICS, threshold=0.002)
    alarms = 0
    for _ in range(300):
        noise = draws.lognormal(0, NOISE, size=(2, 5, len(DEFAULT_METRICS)))
        if is_shared:
            noise[:] = noise[:, :, :1]
        sides = [side(label, _runs(rows.tolist())) for label, rows in zip("ab", noise, strict=True)]
        alarms += bool(compare_sides(sides[0], sides[1:], threshold=0.002, gate=gate, metrics=()).failures)
    assert alarms <= 12  # 4 %, of which half would be for the better


def test_the_default_gate_sees_what_tpot_alone_does_not() -> None:
    """A policy that lets requests wait: the time to the first token a quarter longer, TPOT as it was."""
    runs = [[make_run({"ttft_mean_ms": value}, device=VIRTUAL)] for value in (100.0, 126.0)]
    for metrics, failed in ((DEFAULT_METRICS, ["ttft_mean_ms"]), ((TPOT,), [])):
        gate = Gate(metrics, threshold=0.05)
        comparison = compare_sides(side("a", runs[0]), [side("b", runs[1])], threshold=0.05, gate=gate)
        assert [result.finding.metric.name for result in comparison.failures] == failed


def test_counters_are_exact_in_wall_time() -> None:
    sides = [side(name, repeats("failed", [count, 0])) for name, count in (("a", 0), ("b", 1))]
    gate = Gate(("failed",), threshold=0.05)
    comparison = compare_sides(sides[0], sides[1:], threshold=0.05, gate=gate)
    assert [result.finding.basis for result in comparison.failures] == [Basis.EXACT]


def test_the_first_is_the_reference_of_all_others() -> None:
    sides = [
        side(name, repeats(TPOT, [value], device=VIRTUAL))
        for name, value in zip("abc", (10, 11, 9), strict=True)
    ]
    comparison = compare_sides(sides[0], sides[1:], threshold=0.05, gate=GATE)
    assert [(f.candidate, f.verdict) for f in _of(comparison)] == [
        ("b", Verdict.WORSE),
        ("c", Verdict.BETTER),
    ]
    assert [result.finding.candidate for result in comparison.failures] == ["b"]


def test_what_is_not_defined_is_not_judged() -> None:
    sides = [
        side(name, [make_run({TPOT: value}, device=VIRTUAL)]) for name, value in (("a", None), ("b", 3.0))
    ]
    comparison = compare_sides(sides[0], sides[1:], threshold=0.05, gate=GATE)
    assert [f.verdict for f in _of(comparison)] == [Verdict.UNDEFINED]
    assert not comparison.failures


def test_runs_that_did_not_end_are_left_out_and_named() -> None:
    broken = make_run({}, status="interrupted", folder="b0")
    comparison = compare_sides(side("a", [make_run({})]), [side("b", [broken])], threshold=0.05)
    assert not comparison.is_comparable
    assert not comparison.findings
    assert "b: 1 run did not end: not compared." in comparison.remarks


def test_a_machine_that_changed_is_named() -> None:
    def at(bandwidth: float, folder: str) -> SavedRun:
        run = make_run({}, folder=folder)
        run.manifest["memory_bandwidth"] = {"before": bandwidth, "after": 1.02 * bandwidth}
        return run

    def against(bandwidth: float) -> Comparison:
        first, second = (
            [at(own, f"{name}{i}") for i in (1, 2)] for name, own in (("a", 60e9), ("b", bandwidth))
        )
        return compare_sides(side("a", first), [side("b", second)], threshold=0.05)

    assert against(58e9).remarks == ()
    moved = against(36e9)
    assert moved.remarks[0].startswith("Memory bandwidth varied during the run (36 to 61 GB/s)")


def _runs(rows: list[list[float]]) -> list[SavedRun]:
    """A run a row of DEFAULT_METRICS."""
    return [
        make_run(dict(zip(DEFAULT_METRICS, row, strict=True)), started=f"2025-01-31T12:{index:02d}:00Z")
        for index, row in enumerate(rows)
    ]


def _of(comparison: Comparison) -> list[Finding]:
    return [item for item in comparison.findings if item.metric.name == TPOT]
