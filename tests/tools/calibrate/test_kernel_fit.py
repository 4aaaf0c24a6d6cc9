"""The committed errors of today's kernels are those that the tables give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.simulation.modern_times import DECODE_STEPS, HELD_OUT, TIMES
from pagedbench.tools.calibrate.decode_steps import decode_step_errors
from pagedbench.tools.calibrate.kernel_fit import FOLDERS, held_out_errors

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.simulation.operator_times import Accuracy
    from pagedbench.tools.calibrate.fitting import Errors


def assert_same(found: Errors, committed: Accuracy) -> None:
    """Up to half of the last digit, and what another version of scipy may change."""
    assert found.median == pytest.approx(committed.median, abs=1e-3)
    assert found.percentile_95 == pytest.approx(committed.percentile_95, abs=3e-3)


def test_every_card_has_its_errors() -> None:
    assert set(TIMES) == set(HELD_OUT) == set(DECODE_STEPS) == set(FOLDERS)


@pytest.mark.parametrize(
    ("card", "kernel"), [(card, kernel) for card in HELD_OUT for kernel in HELD_OUT[card]]
)
def test_shapes_held_out_of_the_fit_are_as_far_off_as_stated(
    card: str, kernel: str, test_data: Path
) -> None:
    found = held_out_errors(card, kernel, test_data / "operator-times-2026")
    assert_same(found, HELD_OUT[card][kernel])


def test_whole_decode_steps_are_within_a_tenth_and_as_far_off_as_stated(test_data: Path) -> None:
    found = decode_step_errors(test_data / "operator-times-2026")
    assert set(found) == {(card, ranks) for card, steps in DECODE_STEPS.items() for ranks in steps}
    for (card, ranks), errors in found.items():
        assert_same(errors, DECODE_STEPS[card][ranks])
        assert errors.median < 0.1
