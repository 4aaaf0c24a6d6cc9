"""Block tables by example: growth, slack, forks and copies on write."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.memory.manager import Allocation
from pagedbench.memory.moves import Copy
from pagedbench.memory.paged import Paged
from pagedbench.prompt import Prompt
from pagedbench.request import DecodeCounter, Request, SamplingParams, SequenceGroup


def group_of(prompt_len: int, output_len: int, order: int = 0, n: int = 1) -> SequenceGroup:
    return SequenceGroup(Request(order, 0.0, Prompt(prompt_len), SamplingParams(output_len, n)), order)


def test_blocks_are_taken_one_at_a_time() -> None:
    memory = Paged(160, 16, 128)
    group = group_of(prompt_len=15, output_len=20)
    sequence, counter = group.sequences[0], DecodeCounter()
    memory.allocate(group)
    sequence.start(counter)
    tables = []
    for _ in range(18):
        if memory.room(sequence) == 0:
            assert memory.append(sequence) == []
        counter.count += 1
        memory.advance(1)
        tables.append(len(memory.placement(sequence).blocks))
        memory.check_integrity()
    assert tables == [1] + [2] * 16 + [3]  # 16 tokens, 17 to 32, 33


def test_slack_is_reserved_as_far_as_the_reply_will_fill_it() -> None:
    memory = Paged(160, 16, 128)
    group = group_of(prompt_len=10, output_len=3)
    memory.allocate(group)
    usage = memory.usage(head_refused=True)
    assert (usage.token_states, usage.reserved, usage.internal) == (10, 3, 3)
    assert (usage.external, usage.free) == (0, 144)


def test_the_watermark_is_one_percent_of_the_blocks() -> None:
    memory = Paged(16 * 250, 16, 4000)
    assert memory.watermark_blocks == 2
    assert memory.can_allocate(group_of(16 * 247, 10)) is Allocation.OK  # ends at 248 blocks
    assert memory.can_allocate(group_of(16 * 248, 2)) is Allocation.NEVER  # would end at 249
    memory.allocate(group_of(16 * 200, 10))
    assert memory.can_allocate(group_of(16 * 48, 1, order=1)) is Allocation.OK
    assert memory.can_allocate(group_of(16 * 49, 1, order=2)) is Allocation.LATER


@pytest.mark.parametrize(("output_len", "answer"), [(33, Allocation.OK), (34, Allocation.NEVER)])
def test_never_exactly_where_a_request_could_not_finish_alone(output_len: int, answer: Allocation) -> None:
    memory = Paged(64, 16, 128)  # the last of the 32 + 33 tokens is sampled, but never stored
    assert memory.can_allocate(group_of(32, output_len)) is answer


def test_a_request_above_the_models_length_never_fits() -> None:
    memory = Paged(640, 16, 128)
    assert memory.can_allocate(group_of(100, 28)) is Allocation.OK
    assert memory.can_allocate(group_of(100, 29)) is Allocation.NEVER


def test_a_shared_block_is_copied_by_the_first_writers_and_kept_by_the_last() -> None:
    memory = Paged(160, 4, 128)
    group = group_of(prompt_len=6, output_len=8, n=3)
    memory.allocate(group)
    first, _, third = group.sequences
    prompt_blocks = list(memory.placement(first).blocks)
    assert memory.placement(third).blocks == prompt_blocks
    assert memory.usage(head_refused=False).shared == 2 * 2 * 4

    counter = DecodeCounter()
    for sequence in group.sequences:
        sequence.start(counter)
    copies = [memory.append(sequence) for sequence in group.sequences]
    counter.count += 1
    memory.advance(3)
    tables = [memory.placement(sequence).blocks for sequence in group.sequences]
    assert copies[0] == [Copy(prompt_blocks[1] * 4, tables[0][1] * 4, 2)]
    assert copies[1] == [Copy(prompt_blocks[1] * 4, tables[1][1] * 4, 2)]
    assert copies[2] == []
    assert tables[2] == prompt_blocks
    assert {table[0] for table in tables} == {prompt_blocks[0]}
    assert memory.usage(head_refused=False).token_states == 4 + 3 * 3
    memory.check_integrity()


def test_worst_case_counts_full_prompt_blocks_once() -> None:
    memory = Paged(4 * 11, 4, 128)  # prompt: 2 full blocks; each reply: the third block and one more
    assert memory.can_allocate(group_of(9, 8, n=4)) is Allocation.OK
    assert memory.can_allocate(group_of(9, 8, n=5)) is Allocation.NEVER


def test_the_watermark_is_a_share_of_the_blocks_that_admission_leaves_free() -> None:
    """At 0 a prompt may take the whole pool; running sequences may always grow into what is left free."""
    for watermark, answer in ((0.0, Allocation.OK), (0.25, Allocation.NEVER)):
        memory = Paged(8 * 4, 4, 32, watermark=watermark)
        assert memory.watermark_blocks == 8 * watermark
        assert memory.can_allocate(group_of(28, 4)) is answer


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(5, 40)), min_size=1, max_size=8), st.booleans())
def test_appending_to_all_at_once_is_appending_to_each(
    lengths: list[tuple[int, int]], caches: bool
) -> None:
    """With a cache, the pool is full of old contents, so that growth evicts them."""
    one_by_one, at_once = (Paged(96 * 4, 4, 256, prefix_caching=caches) for _ in range(2))
    slots: list[list[tuple[int, ...]]] = [[], []]
    for memory in (one_by_one, at_once):
        for order in range(12 if caches else 0):
            old = group_of(31, 1, order=100 + order)
            memory.allocate(old)
            memory.mark_computed(old.sequences[0], 31)
            memory.finish(old.sequences[0])
        groups = [group_of(prompt_len, output_len, i) for i, (prompt_len, output_len) in enumerate(lengths)]
        counter = DecodeCounter()
        for group in groups:
            memory.allocate(group)
            group.sequences[0].start(counter)
        sequences = [group.sequences[0] for group in groups]
        for _ in range(4):
            due = [item for item in sequences if memory.room(item) == 0]
            if memory is one_by_one:
                for sequence in due:
                    memory.append(sequence)
                usage = memory.usage(head_refused=False)
                found = usage.free, usage.internal, memory.num_evicted
            else:
                found = memory.append_all(due, 0.0)
            slots[memory is at_once].append(found)
            counter.count += 1
            memory.advance(len(sequences))
            memory.check_integrity()
    assert slots[0] == slots[1]
