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
from pagedbench.memory.moves import Copy
from pagedbench.prompt import Prompt
from pagedbench.request import DecodeCounter, Request, SamplingParams, SequenceGroup


def group_of(prompt_len: int, output_len: int, order: int = 0, n: int = 1) -> SequenceGroup:
    return SequenceGroup(Request(order, 0.0, Prompt(prompt_len), SamplingParams(output_len, n)), order)


@pytest.mark.parametrize(
    ("output_len", "reserved"), [(1, 1), (2, 2), (25, 32), (32, 32), (33, 64), (1500, 2048)]
)
def test_pow2_reserves_the_next_power_of_two(output_len: int, reserved: int) -> None:
    sizes = (4096, 16, 2048)
    assert Pow2Reservation(*sizes).estimate(output_len) == reserved
    assert OracleReservation(*sizes).estimate(output_len) == output_len
    assert MaxReservation(*sizes).estimate(output_len) == 2048


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


def test_retired_tokens_are_internal_until_the_batch_ends() -> None:
    memory = EqualExtents(64, 16, 32, batch_size=2)
    group = SequenceGroup(Request(0, 0.0, Prompt(4), SamplingParams(3)), order=0)
    memory.allocate(group)
    memory.advance(1)
    sequence = group.sequences[0]
    counter = DecodeCounter()
    sequence.start(counter)
    counter.count += 1
    sequence.stop()
    live = memory.usage(head_refused=False)
    assert (live.token_states, live.reserved, live.internal, live.free) == (5, 2, 25, 32)
    memory.retire(sequence)
    dead = memory.usage(head_refused=False)
    assert (dead.token_states, dead.reserved, dead.internal, dead.free) == (0, 0, 32, 32)
    memory.free(sequence)
    assert memory.usage(head_refused=False).free == 64


def test_all_sequences_of_a_group_get_an_extent_or_none() -> None:
    memory = OracleReservation(64, 4, 32)
    first, second, third = group_of(8, 8, 0, n=3), group_of(8, 8, 1, n=2), group_of(8, 8, 2, n=5)
    assert memory.prefill_len(first) == 24
    assert memory.allocate(first) == [0, 0, 0]
    assert memory.can_allocate(second) is Allocation.LATER  # one extent is left
    assert memory.can_allocate(third) is Allocation.NEVER
    assert len({memory.placement(sequence).start for sequence in first.sequences}) == 3
    memory.check_integrity()


def test_a_fork_copies_all_that_the_parent_has_stored() -> None:
    memory = OracleReservation(64, 4, 32)
    group = group_of(8, 8, n=2)
    memory.allocate(group)
    parent, child = group.sequences
    starts = [memory.placement(sequence).start for sequence in group.sequences]
    assert memory.fork(parent, child) == [Copy(starts[0], starts[1], 8)]
    assert memory.placement(child).start == starts[1]


def test_equal_extents_are_divided_again_when_none_is_held() -> None:
    memory = EqualExtents(120, 4, 100, batch_size=2)
    narrow, wide = group_of(20, 20, 0), group_of(20, 10, 1, n=3)
    too_wide = group_of(20, 11, 2, n=2)
    assert memory.can_allocate(wide) is Allocation.NEVER  # 120 / (2 * 3) = 20 slots each
    assert memory.can_allocate(too_wide) is Allocation.NEVER  # 30
    fits = group_of(20, 10, 3, n=2)
    memory.allocate(narrow)
    assert memory.extent_len == 60
    assert memory.can_allocate(fits) is Allocation.LATER  # room enough, but cut for single sequences
    memory.free(narrow.sequences[0])
    assert memory.can_allocate(fits) is Allocation.OK
    memory.allocate(fits)
    assert (memory.extent_len, memory.width) == (30, 2)
    memory.check_integrity()
