"""Hybrid by hand: where the tables of two windows begin, what is freed when, and what a group needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.contents import group_of
from pagedbench.memory.groups.hybrid import Hybrid
from pagedbench.memory.layer_group import LayerGroup
from pagedbench.memory.manager import Allocation
from pagedbench.memory.pool_spec import PoolSpec
from pagedbench.request import DecodeCounter

if TYPE_CHECKING:
    from pagedbench.request import Sequence

GROUPS = (LayerGroup((0, 2), window=12, sinks=5), LayerGroup((1, 3), window=4))


def windowed(num_slots: int, block_size: int, max_model_len: int, **options: Any) -> Hybrid:
    return Hybrid(PoolSpec(num_slots, block_size, max_model_len, layer_groups=GROUPS, **options))


def grown(memory: Hybrid, prompt_len: int, num_steps: int) -> Sequence:
    """A sequence that has stored its prompt and then so many tokens of its reply."""
    group, counter = group_of(0, prompt_len, num_steps + 2), DecodeCounter()
    assert memory.can_allocate(group) is Allocation.OK
    memory.allocate(group)
    (sequence,) = group.sequences
    sequence.start(counter)
    for _ in range(num_steps):
        if memory.room(sequence) == 0:
            memory.append(sequence)
        counter.count += 1
        memory.advance(1)
        memory.check_integrity()
    return sequence


def test_tables_begin_late_and_sinks_stay() -> None:
    memory = windowed(400, 4, 200)
    sequence = grown(memory, prompt_len=30, num_steps=0)
    before = [memory.placement(sequence, group) for group in (0, 1)]
    assert [(len(table.blocks), table.first_position) for table in before] == [(8, 8), (8, 0)]
    sequence = grown(memory, prompt_len=30, num_steps=20)  # 50 tokens
    wide, narrow = (memory.placement(sequence, group) for group in (0, 1))
    # Sinks in blocks 0 and 1; the window of 12 begins at position 38, that of 4 at position 46.
    assert (len(wide.blocks), wide.num_sink_blocks, wide.first_position) == (2 + 4, 2, 36)
    assert (len(narrow.blocks), narrow.num_sink_blocks, narrow.first_position) == (2, 0, 44)
    assert wide.slots(3, 6) == [wide.blocks[0] * 4 + 3, wide.blocks[1] * 4, wide.blocks[1] * 4 + 1]
    assert wide.slots(38, 41) == [wide.blocks[2] * 4 + 2, wide.blocks[2] * 4 + 3, wide.blocks[3] * 4]
    assert narrow.slots(46, 50) == [narrow.blocks[0] * 4 + 2, narrow.blocks[0] * 4 + 3,
                                    narrow.blocks[1] * 4, narrow.blocks[1] * 4 + 1]  # fmt: skip


def test_usage_counts_the_tokens_that_a_group_still_needs() -> None:
    memory = windowed(400, 4, 200)
    sequence = grown(memory, prompt_len=30, num_steps=20)
    usage = memory.usage(head_refused=False)
    assert usage.token_states == (5 + 12) + 4
    assert usage.reserved == 2 + 2  # in each group two tokens of the reply are left
    assert usage.token_states + usage.reserved + usage.internal == 8 * 4
    assert usage.capacity == memory.num_slots
    memory.free(sequence)
    assert memory.usage(head_refused=False).free == memory.num_slots


def test_long_replies_need_no_more_than_their_windows() -> None:
    memory = windowed(2 * 10 * 4, 4, 200)
    assert memory.can_allocate(group_of(0, 20, 21)) is Allocation.OK  # 40 tokens, 10 blocks in each group
    assert memory.can_allocate(group_of(0, 20, 22)) is Allocation.NEVER
    sequences = [grown(memory, prompt_len=12, num_steps=20) for _ in range(2)]
    assert all(len(memory.placement(sequence, 0).blocks) <= 6 for sequence in sequences)
