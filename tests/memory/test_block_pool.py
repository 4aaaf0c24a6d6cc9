"""The pool against plain lists: counts, the free list, and which idle block is given up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.memory.block_pool import BlockPool
from pagedbench.memory.eviction import CachedBlock

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["take", "take", "share", "release", "release", "keep"]), st.integers(0, 99)),
    max_size=80,
)


def test_the_block_freed_last_is_handed_out_first() -> None:
    pool = BlockPool(4)
    blocks = pool.take_all(4)
    for index in (2, 0, 3):
        pool.release(blocks[index])
    assert pool.take() == blocks[3]
    assert pool.take_all(2) == [blocks[0], blocks[2]]


@settings(max_examples=300)
@given(num_blocks=st.integers(1, 8), operations=OPERATIONS)
def test_equals_plain_lists(num_blocks: int, operations: list[tuple[str, int]]) -> None:
    evicted: list[int] = []
    pool = BlockPool(num_blocks, evicted.extend)
    owners = [0] * num_blocks
    free = set(range(num_blocks))
    idle: list[int] = []  # the longest idle first
    kept: set[int] = set()
    for operation, choice in operations:
        owned = [block for block in range(num_blocks) if owners[block]]
        if operation == "take" and (free or idle):
            num_evicted = len(evicted)
            block = pool.take()
            if free:
                assert evicted[num_evicted:] == []  # nothing is given up while a block is free
                free.remove(block)
            else:
                assert evicted[num_evicted:] == [block] == idle[:1]
                kept.remove(idle.pop(0))
            owners[block] = 1
        elif operation == "share" and owned + idle:
            block = (owned + idle)[choice % len(owned + idle)]
            assert pool.share(block) is (block in idle)
            idle = [other for other in idle if other != block]
            owners[block] += 1
        elif operation == "release" and owned:
            block = owned[choice % len(owned)]
            owners[block] -= 1
            assert pool.release(block) is (owners[block] == 0)
            if not owners[block] and block in kept:
                idle.append(block)
            elif not owners[block]:
                free.add(block)
        elif operation == "keep" and owned:
            block = owned[choice % len(owned)]
            pool.keep([CachedBlock(block)])
            kept.add(block)
        pool.check_integrity(dict(enumerate(owners)))
        assert pool.num_free == len(free) + len(idle)
        assert pool.num_idle([block for block in range(num_blocks) if block not in free]) == len(idle)
        assert (pool.num_kept, pool.num_evicted) == (len(kept), len(evicted))
        assert [pool.num_owners(block) for block in range(num_blocks)] == owners


def test_mistakes_are_caught() -> None:
    pool = BlockPool(2)
    block = pool.take()
    assert pool.release(block)
    for mistake in (pool.release, pool.share, lambda block: pool.keep([CachedBlock(block)])):
        with pytest.raises(AssertionError, match="is free"):
            mistake(block)
    with pytest.raises(AssertionError, match="0 owners, 1 holders"):
        pool.check_integrity({block: 1})


@pytest.mark.parametrize("number", range(7))
def test_many_blocks_at_once_are_the_same_as_one_after_the_other(number: int) -> None:
    """Six blocks: two kept and idle, two owned by one, one by two, one free."""
    outcomes = []
    for is_at_once in (True, False):
        evicted: list[int] = []
        pool = BlockPool(6, evicted.extend)
        blocks = [pool.take() for _ in range(6)]
        pool.keep(map(CachedBlock, blocks[:4]))
        pool.share(blocks[4])
        lost = blocks[5], blocks[1], blocks[0], blocks[4]
        if is_at_once:
            assert pool.release_all(lost) == 3
            taken = pool.take_all(min(number, pool.num_free))
        else:
            assert [pool.release(block) for block in lost] == [True, True, True, False]
            taken = [pool.take() for _ in range(min(number, pool.num_free))]
        owners = {block: pool.num_owners(block) for block in range(6)}
        pool.check_integrity(owners)
        outcomes.append((taken, evicted, owners, pool.num_idle(blocks)))
    assert outcomes[0] == outcomes[1]
