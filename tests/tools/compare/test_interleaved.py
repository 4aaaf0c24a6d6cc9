"""The order of interleaved runs, and what two rounds of them conclude."""

from __future__ import annotations

import pytest

from pagedbench.tools.compare.comparison import Comparison, compare_sides
from pagedbench.tools.compare.gate import Gate
from pagedbench.tools.compare.interleaved import concluded, is_suspicion, narrowed
from pagedbench.tools.compare.rounds import turns_of
from tools.compare.runs import VIRTUAL, WALL, repeats, side

TPOT, TTFT = "tpot_p50_ms", "ttft_p50_ms"
NOISE = (1.0, 1.01, 0.99, 1.005, 0.995)
GATE = Gate((TTFT, TPOT), threshold=0.05)


def compared(factor: float, *, device: str = WALL, gate: Gate = GATE) -> Comparison:
    """Five pairs whose candidate takes `factor` times as long for a token."""
    values = (NOISE, [factor * item for item in reversed(NOISE)])
    first, second = (side("ab"[i], repeats(TPOT, values[i], device=device)) for i in range(2))
    return compare_sides(first, [second], threshold=gate.threshold, gate=gate)


@pytest.mark.parametrize(
    ("num_sides", "num_workloads", "num_repeats", "order"),
    [
        (2, 1, 1, "A1 B1"),
        (2, 1, 4, "A1 B1 B2 A2 A3 B3 B4 A4"),
        (3, 1, 2, "A1 B1 C1 C2 B2 A2"),
        (2, 2, 2, "A1 B1 B2 A2 A1 B1 B2 A2"),
    ],
)
def test_turns_go_there_and_back(num_sides: int, num_workloads: int, num_repeats: int, order: str) -> None:
    turns = turns_of(num_sides, num_workloads, num_repeats)
    assert " ".join(f"{'ABC'[turn.side]}{turn.repeat}" for turn in turns) == order
    assert [turn.workload for turn in turns] == sorted(turn.workload for turn in turns)


def test_a_steady_drift_favours_no_side() -> None:
    """Over an even number of repeats, the mean place in the order is the same."""
    turns = turns_of(2, 1, 6)
    places = [[place for place, turn in enumerate(turns) if turn.side == number] for number in range(2)]
    assert sum(places[0]) == sum(places[1])


def test_only_noise_is_suspected() -> None:
    assert is_suspicion(compared(1.1))
    assert not is_suspicion(compared(1.0))
    exact = compared(1.1, device=VIRTUAL)
    assert exact.failures
    assert not is_suspicion(exact)


def test_fresh_runs_are_asked_about_what_is_suspected() -> None:
    assert narrowed(GATE, compared(1.1)) == Gate((TPOT,), 0.05)


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1.1, "b: confirmed: tpot_p50_ms was 12 % worse in the first 5 pairs, and 10 % worse in as many"),
        (
            0.98,
            "b: suspected, not confirmed: tpot_p50_ms was 12 % worse in the first 5 pairs, and 2 % better",
        ),
    ],
)
def test_both_estimates_are_remarked(factor: float, words: str) -> None:
    fresh = compared(factor)
    end = concluded(compared(1.12), fresh)
    assert end.remarks[0].startswith(words)
    assert (end.findings, end.results) == (fresh.findings, fresh.results)
