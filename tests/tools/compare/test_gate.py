from __future__ import annotations

import pytest

from pagedbench.show.judgement import Outcome
from pagedbench.tools.compare.comparison import Comparison, compare_sides
from pagedbench.tools.compare.gate import Gate
from tools.compare.runs import VIRTUAL, repeats, side

STEADY = (10.0, 10.1, 9.9, 10.05)


def gated(
    metric: str, first: tuple[float, ...], second: tuple[float, ...], **options: object
) -> Comparison:
    sides = [side("a", repeats(metric, first, **options)), side("b", repeats(metric, second, **options))]
    gate = Gate((metric,), threshold=0.05)
    return compare_sides(sides[0], sides[1:], threshold=0.05, gate=gate, metrics=())


def outcome_of(comparison: Comparison) -> tuple[Outcome, str]:
    (result,) = comparison.results
    return result.outcome, result.reason


@pytest.mark.parametrize(
    ("metric", "factor", "outcome"),
    [
        ("tpot_p50_ms", 1.2, Outcome.FAILED),
        ("tpot_p50_ms", 0.8, Outcome.PASSED),
        ("request_throughput", 0.8, Outcome.FAILED),
        ("request_throughput", 1.2, Outcome.PASSED),
        ("tpot_p50_ms", 1.04, Outcome.PASSED),  # certain, but too little
    ],
)
def test_fails_in_the_worse_direction_beyond_the_threshold(
    metric: str, factor: float, outcome: Outcome
) -> None:
    assert outcome_of(gated(metric, STEADY, tuple(factor * value for value in STEADY)))[0] is outcome


def test_much_worse_but_uncertain_passes_and_says_what_it_would_have_seen() -> None:
    comparison = gated("tpot_p50_ms", (10, 12, 9), (10, 16, 10))
    outcome, reason = outcome_of(comparison)
    assert outcome is Outcome.PASSED
    assert reason == "14 % worse, beyond 5 %, but perhaps by chance: the interval contains zero"
    assert comparison.results[0].detectable is not None
    assert comparison.results[0].detectable > 0.2


def test_holm_asks_more_of_several_gated_metrics() -> None:
    noisy = [[10.0, 10.0, 10.0, 10.0], [10.7, 11.8, 10.6, 11.7]]
    sides = [side(label, repeats("tpot_p50_ms", values)) for label, values in zip("ab", noisy, strict=True)]
    alone = Gate(("tpot_p50_ms",), 0.05)
    many = Gate(("tpot_p50_ms", "ttft_p50_ms", "e2el_mean_s", "tpot_mean_ms", "itl_mean_ms"), 0.05)
    for gate, is_failed in ((alone, True), (many, False)):
        comparison = compare_sides(sides[0], sides[1:], threshold=0.05, gate=gate)
        assert bool(comparison.failures) is is_failed


@pytest.mark.parametrize(("completed", "outcome"), [(367, Outcome.NOT_JUDGED), (368, Outcome.FAILED)])
def test_a_p99_of_few_requests_is_never_gated(completed: int, outcome: Outcome) -> None:
    comparison = gated("ttft_p99_ms", (10, 10), (20, 20), device=VIRTUAL, completed=completed)
    assert outcome_of(comparison)[0] is outcome


def test_a_single_pair_without_an_interval_is_not_gated() -> None:
    outcome, reason = outcome_of(gated("request_throughput", (10,), (5,)))
    assert outcome is Outcome.NOT_JUDGED
    assert "repeat" in reason


def test_virtual_time_needs_one_pair() -> None:
    assert outcome_of(gated("tpot_p50_ms", (10,), (11,), device=VIRTUAL)) == (
        Outcome.FAILED,
        "10 % worse, beyond 5 %",
    )
    assert outcome_of(gated("tpot_p50_ms", (10,), (10,), device=VIRTUAL)) == (
        Outcome.PASSED,
        "exactly equal",
    )


def test_something_from_nothing_is_beyond_any_threshold() -> None:
    comparison = gated("preemptions_swap", (0,), (3,), device=VIRTUAL)
    assert outcome_of(comparison) == (Outcome.FAILED, "worse (up from 0), beyond 5 %")


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (STEADY, "no change on average"),
        ((9.0, 9.09, 8.91, 9.045), "10 % better"),
        ((9.9, 10.3, 9.5, 10.1), "0.666 % better, perhaps by chance"),
        ((10.4, 10.504, 10.296, 10.452), "4 % worse, not beyond 5 %"),
        ((10.2, 10.6, 9.8, 10.1), "1.59 % worse, not beyond 5 %"),
        ((11.0, 11.11, 10.89, 11.055), "10 % worse, beyond 5 %"),
    ],
)
def test_reasons_read_as_what_they_are(second: tuple[float, ...], reason: str) -> None:
    assert outcome_of(gated("tpot_p50_ms", STEADY, second))[1] == reason


def test_starved_runs_are_not_judged() -> None:
    sides = [side(label, repeats("tpot_p50_ms", STEADY)) for label in "ab"]
    for run, load in zip(sides[1].runs, (None, {"busy": False}, {"busy": True}), strict=False):
        run.manifest["machine_load"] = load  # None: not known
    comparison = compare_sides(sides[0], sides[1:], threshold=0.05, gate=Gate(("tpot_p50_ms",), 0.05))
    reason = "other programs starved 1 run; repeat on an idle machine"
    assert outcome_of(comparison) == (Outcome.NOT_JUDGED, reason)
    assert comparison.remarks == (
        "b: this machine was busy with other programs during 1 of 4 runs; their times say little.",
    )
