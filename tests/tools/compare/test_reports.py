"""A comparison becomes one judgement a gated figure, or one a candidate that cannot be compared."""

from __future__ import annotations

from pagedbench.show.judgement import Figure, Outcome
from pagedbench.tools.compare.comparison import Comparison, Side, compare_sides
from pagedbench.tools.compare.gate import Gate
from pagedbench.tools.compare.reports import invalid_sides, judgements_of
from tools.compare.runs import VIRTUAL, make_run, repeats, side

STEADY = (10.0, 10.1, 9.9, 10.05)
GATE = Gate(("tpot_p50_ms", "request_throughput"), threshold=0.05)


def compared(*sides: Side) -> Comparison:
    return compare_sides(sides[0], sides[1:], threshold=0.05, gate=GATE, metrics=())


def test_a_judgement_a_gated_figure() -> None:
    slower = [value * factor for value, factor in zip(STEADY, (1.2, 1.21, 1.19, 1.2), strict=True)]
    first, second = judgements_of(
        compared(side("a", repeats("tpot_p50_ms", STEADY)), side("b", repeats("tpot_p50_ms", slower)))
    )
    assert (first.suite, first.name, first.outcome) == ("b", "request_throughput", Outcome.PASSED)
    assert first.message == (
        "request_throughput 1.00 → 1.00 req/s: no change on average (96 % interval +0 % to +0 %, 4 pairs); "
        "5 % would be caught in 9 of 10 tries."
    )
    assert (second.name, second.outcome) == ("tpot_p50_ms", Outcome.FAILED)
    assert second.message.startswith("tpot_p50_ms 10.0 → 12.0 ms: 20 % worse, beyond 5 % (98 % interval +")
    (figure,) = second.figures
    assert (figure.name, figure.unit, figure.better) == ("tpot_p50_ms", "ms", "lower")
    assert figure.after is not None
    assert figure.before is not None
    assert round(figure.after / figure.before, 3) == 1.2


def test_groups_and_candidates_are_suites() -> None:
    sides = [
        side(label, [make_run({}, rate=rate, device=VIRTUAL) for rate in (1.0, 2.0)]) for label in "abc"
    ]
    suites = dict.fromkeys(item.suite for item in judgements_of(compared(*sides)))
    assert list(suites) == ["b: rate 1", "b: rate 2", "c: rate 1", "c: rate 2"]


def test_what_is_not_judged_says_why() -> None:
    runs = [make_run({}, device=VIRTUAL, completed=9)]
    gate = Gate(("ttft_p99_ms",), threshold=0.05)
    (judgement,) = judgements_of(
        compare_sides(side("a", runs), [side("b", runs)], threshold=0.05, gate=gate)
    )
    assert judgement.outcome is Outcome.NOT_JUDGED
    assert judgement.message == "ttft_p99_ms 1.00 → 1.00 ms: a p99 of 9 requests; 368 are needed."
    assert judgement.figures == (Figure("ttft_p99_ms", "ms", "lower", 1.0, 1.0),)


def test_what_cannot_be_compared_has_failed() -> None:
    slots = {"a": 16_000, "b": 16_000, "c": 8_000}
    sides = [side(name, [make_run({}, device=VIRTUAL, kv_slots=size)]) for name, size in slots.items()]
    (judgement,) = judgements_of(compared(*sides))
    assert (judgement.suite, judgement.name, judgement.outcome) == ("c", "comparable", Outcome.FAILED)
    assert judgement.message == "a and c cannot be compared: pool: 16,000 tokens | 8,000 tokens."
    strangers = compared(side("a", [make_run({})]), side("b", [make_run({}, status="interrupted")]))
    assert judgements_of(strangers)[0].message == (
        "a and b cannot be compared: "
        "no complete run of one has a partner with the same requests in the other."
    )


def test_without_a_gate_there_is_nothing_to_judge() -> None:
    runs = [make_run({}, device=VIRTUAL)]
    assert judgements_of(compare_sides(side("a", runs), [side("b", runs)], threshold=0.05)) == []


def test_invalid_runs_fail_their_side() -> None:
    bad = make_run({"valid": False})
    (judgement,) = invalid_sides([side("a", [make_run({})]), side("b", [make_run({}), bad])])
    assert (judgement.suite, judgement.outcome) == ("b", Outcome.FAILED)
    assert judgement.message == "b: 1 of 2 runs invalid."


def test_starved_runs_fail_their_side() -> None:
    starved = make_run({})
    starved.manifest["machine_load"] = {"busy": True}
    (judgement,) = invalid_sides([side("a", [make_run({})]), side("b", [make_run({}), starved])])
    assert (judgement.name, judgement.message) == ("undisturbed", "b: 1 of 2 runs starved.")
