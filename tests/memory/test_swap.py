"""Groups on their way to the host and back, by example."""

from __future__ import annotations

from memory.contents import group_of
from pagedbench.memory.moves import Copy, Pool
from pagedbench.memory.paged import Paged
from pagedbench.request import DecodeCounter, SequenceGroup


def grown_group(memory: Paged, num_steps: int) -> SequenceGroup:
    """Two samples of a prompt of one and a half blocks, `num_steps` tokens later."""
    group, counter = group_of(0, 6, 20, n=2), DecodeCounter()
    memory.allocate(group)
    for sequence in group.sequences:
        sequence.start(counter)
    for _ in range(num_steps):
        for sequence in group.sequences:
            memory.append(sequence)
        counter.count += 1
        memory.advance(2)
    for sequence in group.sequences:
        sequence.stop()
    memory.check_integrity()
    return group


def test_a_shared_block_moves_once_and_is_shared_again() -> None:
    memory = Paged(80, 4, 128)
    group = grown_group(memory, num_steps=2)  # a full block of both, and a full one of each
    moves = memory.swap_out(group)
    assert len(moves) == len({move.destination for move in moves}) == 3
    assert {(move.source_pool, move.destination_pool) for move in moves} == {(Pool.DEVICE, Pool.HOST)}
    assert memory.host.pool.num_used == 3
    assert memory.usage(head_refused=False).free == 80
    assert len(memory.swap_in(group)) == 3
    first, second = (memory.placement(sequence).blocks for sequence in group.sequences)
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert memory.host.pool.num_used == 0
    assert memory.usage(head_refused=False).shared == 4
    memory.check_integrity()


def test_a_partial_block_comes_back_once_too_and_is_copied_on_write() -> None:
    memory = Paged(80, 4, 128)
    group = grown_group(memory, num_steps=0)
    assert len(memory.swap_out(group)) == 2
    moves = memory.swap_in(group)
    assert len(moves) == 2
    assert {(move.source_pool, move.destination_pool) for move in moves} == {(Pool.HOST, Pool.DEVICE)}
    assert [memory.room(sequence) for sequence in group.sequences] == [0, 0]
    shared = memory.placement(group.sequences[0]).blocks[1]
    copies = memory.append(group.sequences[0])
    first, second = (memory.placement(sequence).blocks for sequence in group.sequences)
    assert copies == [Copy(shared * 4, first[1] * 4, 2)]
    assert (first[0], second[1]) == (second[0], shared)
    assert [memory.room(sequence) for sequence in group.sequences] == [2, 2]
    memory.check_integrity()


def test_the_host_takes_a_group_whole_or_not_at_all() -> None:
    for host_slots, answer in ((12, True), (11, False), (0, False)):
        memory = Paged(80, 4, 128, host_slots=host_slots)
        assert memory.can_swap_out(grown_group(memory, num_steps=2)) is answer


def test_a_group_returns_when_blocks_for_its_next_tokens_and_the_watermark_are_free() -> None:
    for num_others, answer in ((94, True), (95, False)):
        memory = Paged(400, 4, 2000)
        group = grown_group(memory, num_steps=2)
        memory.swap_out(group)
        memory.allocate(group_of(1, 4 * num_others, 2))
        assert memory.can_swap_in(group) is answer  # 3 blocks, 2 for what comes, 1 of the watermark
