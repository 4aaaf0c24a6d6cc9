"""The order of interleaved runs."""

from __future__ import annotations

import pytest

from pagedbench.tools.compare.rounds import turns_of


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
