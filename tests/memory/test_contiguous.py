"""Orca's reservations and FasterTransformer's extents, by example."""

from __future__ import annotations

import pytest

from pagedbench.memory.contiguous import (
    Contiguous,
    EqualExtents,
    MaxReservation,
    OracleReservation,
    Pow2Reservation,
)
from pagedbench.memory.manager import Allocation
from pagedbench.memory.reservation import maximum, oracle, pow2
from pagedbench.request import Prompt, Request, SamplingParams, SequenceGroup


def group_of(prompt_len: int, output_len: int, order: int = 0) -> SequenceGroup:
    return SequenceGroup(Request(order, 0.0, Prompt(prompt_len), SamplingParams(output_len)), order)


@pytest.mark.parametrize(
    ("output_len", "reserved"), [(1, 1), (2, 2), (25, 32), (32, 32), (33, 64), (1500, 2048)]
)
def test_pow2_reserves_the_next_power_of_two(output_len: int, reserved: int) -> None:
    assert pow2(output_len, 2048) == reserved
    assert oracle(output_len, 2048) == output_len
    assert maximum(output_len, 2048) == 2048


@pytest.mark.parametrize(
    ("manager", "reserved", "internal", "rounding"),
    [
        (OracleReservation, 90, 0, 512 - 390),
        (Pow2Reservation, 90, 38, 512 - 428),
        (MaxReservation, 90, 1658, 0),
    ],
)
def test_parts_of_an_extent(manager: type[Contiguous], reserved: int, internal: int, rounding: int) -> None:
    memory = manager(981 * 16, 16, 2048)
    memory.allocate(group_of(300, 90))
    usage = memory.usage(head_refused=False)
    assert (usage.token_states, usage.reserved, usage.internal) == (300, reserved, internal)
    assert (usage.rounding, usage.unusable) == (rounding, 0)
    refused = memory.usage(head_refused=True)
    assert (refused.unusable, refused.free) == (usage.free, 0)


def test_max_never_runs_more_than_seven_in_the_papers_pool() -> None:
    memory = MaxReservation(981 * 16, 16, 2048)
    for i in range(7):
        assert memory.can_allocate(group_of(5, 5, i)) is Allocation.OK
        memory.allocate(group_of(5, 5, i))
    assert memory.can_allocate(group_of(5, 5, 7)) is Allocation.LATER


def test_what_is_longer_than_the_largest_chunk_never_fits() -> None:
    memory = OracleReservation(16 * 100, 16, 2048)
    assert memory.can_allocate(group_of(1000, 24)) is Allocation.OK  # 64 blocks
    assert memory.can_allocate(group_of(1000, 25)) is Allocation.NEVER  # 128 blocks


def test_equal_extents() -> None:
    memory = EqualExtents(981 * 16, 16, 2048, batch_size=7)
    assert memory.extent_len == 2048
    assert EqualExtents(1000 * 16, 16, 2048, batch_size=10).extent_len == 1600
    assert memory.can_allocate(group_of(2000, 48)) is Allocation.OK
    assert memory.can_allocate(group_of(2000, 49)) is Allocation.NEVER
    starts = []
    for i in range(7):
        group = group_of(5, 5, i)
        memory.allocate(group)
        starts.append(memory.placement(group.sequences[0]).start)
    assert starts == [i * 2048 for i in range(7)]
    assert memory.can_allocate(group_of(5, 5, 7)) is Allocation.LATER
