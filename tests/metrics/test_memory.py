from __future__ import annotations

from dataclasses import replace

import pytest

from metrics.builders import make_record, make_steps, small_run
from pagedbench.metrics.memory import (
    mean_over_iterations,
    mean_over_time,
    shared_saving_over_iterations,
    shared_saving_over_time,
)


def test_iterations_alike_and_by_duration() -> None:
    record = small_run()
    assert mean_over_iterations(record, "token_states") == pytest.approx((10 + 31 + 33 + 5) / 4)
    assert mean_over_iterations(record, "free") == pytest.approx((80 + 53 + 53 + 95) / 4)
    assert mean_over_time(record, "rounding") == pytest.approx((8 + 3 + 6) / 6)
    assert mean_over_time(record, "unusable") == pytest.approx((2 + 4) / 6)


def test_external_is_rounding_and_unusable() -> None:
    record = small_run()
    for mean in (mean_over_time, mean_over_iterations):
        parts = mean(record, "rounding") + mean(record, "unusable")
        assert parts == pytest.approx(mean(record, "external"))


def test_pinned_prefixes_hold_their_tokens_between_iterations() -> None:
    """Busy for 1 of 4 seconds; 20 of 100 slots are pinned all the time."""
    steps = make_steps([(3, 4)], kv_token_states=[50], kv_reserved=[10])
    record = replace(make_record(steps, []), num_pinned=20)
    assert mean_over_time(record, "token_states") == pytest.approx((3 * 20 + 50) / 4)
    assert mean_over_time(record, "reserved") == pytest.approx(10 / 4)
    assert mean_over_time(record, "free") == pytest.approx((3 * 80 + 40) / 4)


def test_sharing() -> None:
    """Half of the logical slots saved for 1 s, a fifth for 3 s, nothing held for 1 s."""
    steps = make_steps(
        [(0, 1), (1, 4), (4, 5)],
        kv_token_states=[20, 36, 0],
        kv_internal=[0, 4, 0],
        kv_shared=[20, 10, 0],
    )
    record = make_record(steps, [])
    assert shared_saving_over_time(record) == pytest.approx(100 * (0.5 + 3 * 0.2) / 4)
    assert shared_saving_over_iterations(record) == pytest.approx(100 * (1 - 2 / (2 + 1.25)))


def test_unusable_slots_are_not_held() -> None:
    steps = make_steps([(0, 1)], kv_token_states=[30], kv_external=[40], kv_unusable=[40], kv_shared=[30])
    assert shared_saving_over_time(make_record(steps, [])) == pytest.approx(50)


def test_without_iterations_nothing_is_defined() -> None:
    record = make_record(make_steps([]), [])
    assert mean_over_time(record, "free") is None
    assert mean_over_iterations(record, "free") is None
    assert shared_saving_over_time(record) is None
    assert shared_saving_over_iterations(record) is None
