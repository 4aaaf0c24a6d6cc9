"""What two rounds of interleaved runs conclude."""

from __future__ import annotations

import pytest

from pagedbench.tools.compare.comparison import Comparison, compare_sides
from pagedbench.tools.compare.gate import Gate
from pagedbench.tools.compare.interleaved import concluded, is_suspicion, narrowed
from tools.compare.runs import VIRTUAL, WALL, repeats, side

TPOT, TTFT = "tpot_p50_ms", "ttft_p50_ms"
NOISE = (1.0, 1.01, 0.99, 1.005, 0.995)
GATE = Gate((TTFT, TPOT), threshold=0.05)


def compared(factor: float, *, device: str = WALL, gate: Gate = GATE) -> Comparison:
    """Five pairs whose candidate takes `factor` times as long for a token."""
    values = (NOISE, [factor * item for item in reversed(NOISE)])
    first, second = (side("ab"[i], repeats(TPOT, values[i], device=device)) for i in range(2))
    return compare_sides(first, [second], threshold=gate.threshold, gate=gate)


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
