"""Eviction policies: what each gives up, by example, and what all of them promise the pool."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.memory.block_pool import BlockPool
from pagedbench.memory.cache_times import EDGES
from pagedbench.memory.eviction import CachedBlock, EvictionPolicy
from pagedbench.memory.evictions import ATTENTION_EQUALS_REST, EVICTIONS, Belady, Ttl, ttl_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "use", "evict"]), st.integers(0, 99), st.integers(1, 4)),
    max_size=60,
)


def blocks_of(*starts: int, first: int = 0) -> list[CachedBlock]:
    """Blocks of one token at these positions of a prompt, numbered and kept in this order."""
    return [
        CachedBlock(first + i, key=first + i, start=start, order=first + i)
        for i, start in enumerate(starts)
    ]


def evicted(policy: EvictionPolicy, number: int) -> list[int]:
    return [block.number for block in policy.evict(number)]


@pytest.mark.parametrize("name", EVICTIONS)
@settings(max_examples=60)
@given(operations=OPERATIONS)
def test_exactly_idle_blocks_are_evicted_and_as_many_as_asked(
    name: str, operations: list[tuple[str, int, int]]
) -> None:
    policy = EVICTIONS[name]()
    policy.foresee({number: [number % 7, number % 3] for number in range(100)})
    idle: list[CachedBlock] = []
    owned: list[CachedBlock] = []
    for step, (operation, choice, number) in enumerate(operations):
        policy.admitted(step)
        if operation == "add":
            new = [CachedBlock(i, (step, i), i, 1, step) for i in range(number)][::-1]
            back, owned = owned[:choice], owned[choice:]
            policy.add(back + new)
            idle += back + new
        elif operation == "use" and idle:
            used = [idle.pop(choice % len(idle)) for _ in range(min(number, len(idle)))]
            policy.remove(used)
            for block in used:
                block.num_uses += 1
            owned += used
        elif operation == "evict":
            number = min(number, len(idle))
            chosen = policy.evict(number)
            assert len({*chosen}) == number
            assert {*chosen} <= {*idle}
            idle = [block for block in idle if block not in chosen]
    assert {*policy.evict(len(idle))} == {*idle}


def test_lru_gives_up_what_was_idle_for_longest() -> None:
    policy, blocks = EVICTIONS["lru"](), blocks_of(3, 2, 1, 0)
    policy.add(blocks)
    policy.remove(blocks[:2])
    policy.add([blocks[1], blocks[0]])
    assert evicted(policy, 4) == [2, 3, 1, 0]


def test_fifo_gives_up_what_was_computed_first_whenever_it_was_used() -> None:
    policy, blocks = EVICTIONS["fifo"](), blocks_of(0, 1, 2)
    policy.add(blocks[::-1])
    policy.remove(blocks[:1])
    policy.add(blocks[:1])
    assert evicted(policy, 3) == [0, 1, 2]


def test_lfu_gives_up_what_was_used_least_and_of_equals_the_least_recent() -> None:
    policy, blocks = EVICTIONS["lfu"](), blocks_of(0, 0, 0, 0)
    for block, num_uses in zip(blocks, (2, 1, 3, 1), strict=True):
        block.num_uses = num_uses
    policy.add(blocks)
    assert evicted(policy, 4) == [1, 3, 0, 2]


def test_slru_protects_what_was_found_again_but_not_more_than_four_fifths() -> None:
    policy, blocks = EVICTIONS["slru"](), blocks_of(*[0] * 10)
    for block in blocks[:9]:
        block.num_uses = 2
    policy.add(blocks)  # of the nine, the least recent one goes back behind the tenth
    assert evicted(policy, 4) == [9, 0, 1, 2]


def test_s3_fifo_lets_one_hit_wonders_pass_and_takes_ghosts_back_into_the_main_queue() -> None:
    policy, blocks = EVICTIONS["s3-fifo"](), blocks_of(*[0] * 20)
    policy.add(blocks)
    policy.remove(blocks[:1])
    blocks[0].num_uses += 2  # found twice: it moves on to the main queue
    policy.add(blocks[:1])
    assert evicted(policy, 3) == [1, 2, 3]
    ghost = CachedBlock(1, key=1)
    policy.add([ghost])
    others = blocks_of(*[0] * 20, first=30)
    policy.add(others)
    assert evicted(policy, 30) == [*range(4, 20), *range(30, 44)]  # the small queue alone
    assert evicted(policy, 5) == [44, 45, 46, 47, 48]
    assert evicted(policy, 3) == [49, 0, 1]  # then the main one


def test_gdsf_weighs_uses_and_the_attention_of_deep_blocks_and_ages() -> None:
    policy = EVICTIONS["gdsf"]()
    near, far = blocks_of(0, 3 * ATTENTION_EQUALS_REST)
    often = CachedBlock(2, key=2, num_uses=3)
    for block in (near, often, far):  # work: 1, 3 x 1, 4 units
        policy.add([block])
    assert evicted(policy, 2) == [0, 2]
    late = CachedBlock(3, key=3, num_uses=2)
    policy.add([late])  # 3 + 2 x 1
    assert evicted(policy, 2) == [1, 3]


def test_gdsf_never_values_a_beginning_less_than_what_follows_it() -> None:
    policy = EVICTIONS["gdsf"]()
    policy.add(blocks_of(9 * ATTENTION_EQUALS_REST, 5 * ATTENTION_EQUALS_REST, 0))
    assert evicted(policy, 3) == [0, 1, 2]


def test_ttl_keeps_nothing_longer_than_its_time_and_is_lru_before() -> None:
    policy, blocks = Ttl(10.0), blocks_of(0, 1, 2, 3)
    for block, since in zip(blocks, (0.0, 1.0, 2.0, 12.0), strict=True):
        block.idle_since = since
        policy.add([block])
    assert evicted(policy, 1) == [0]
    assert policy.expired(11.0) == []
    assert [block.number for block in policy.expired(12.5)] == [1, 2]
    assert evicted(policy, 1) == [3]


def test_ttl_is_read_with_its_unit() -> None:
    for name, seconds in (("ttl:60s", 60.0), ("ttl:2.5s", 2.5), ("ttl:500ms", 0.5)):
        policy = ttl_of(name)
        assert policy is not None
        assert policy.seconds == seconds
    assert ttl_of("ttl") is None  # 300 s, by its name
    assert ttl_of("mine:Class") is None
    for wrong in ("ttl:", "ttl:60", "ttl:0s", "ttl:-1s", "ttl:5m"):
        with pytest.raises(ValueError, match="as in ttl:60s"):
            ttl_of(wrong)


def future(*prompts: Iterable[int]) -> Mapping[int, list[int]]:
    return {number: list(keys) for number, keys in enumerate(prompts)}


def test_belady_gives_up_the_farthest_next_use_and_of_equals_the_deepest() -> None:
    policy = Belady()
    policy.foresee(future([0, 1, 2], [0, 1], [3], [0, 1, 2]))
    policy.admitted(0)
    policy.add([CachedBlock(key, key, key) for key in (2, 1, 0)])
    assert evicted(policy, 1) == [2]  # used by request 3, the others by request 1
    policy.admitted(2)
    policy.add([CachedBlock(3, 3, 0)])
    assert evicted(policy, 1) == [3]  # never used again
    policy.admitted(1)  # both are used by request 3 now
    assert evicted(policy, 2) == [1, 0]


def test_belady_knows_which_requests_came_before_their_turn() -> None:
    policy = Belady()
    policy.foresee(future([5], [6], [5], [6]))
    policy.admitted(0)
    policy.admitted(2)
    policy.add([CachedBlock(5, 5), CachedBlock(6, 6)])
    assert evicted(policy, 2) == [5, 6]


def test_the_pool_refuses_a_policy_that_answers_wrongly() -> None:
    class TooFew(EVICTIONS["lru"]):
        def evict(self, number: int) -> list[CachedBlock]:
            return []

    class Owned(EVICTIONS["lru"]):
        def remove(self, blocks: list[CachedBlock]) -> None:
            """It forgets that blocks are used again."""

    for policy, words in ((TooFew, r"TooFew.evict returned 0 blocks instead of 1"), (Owned, "not idle")):
        pool = BlockPool(2, policy=policy())
        blocks = pool.take_all(2)
        pool.keep(map(CachedBlock, blocks))
        pool.release_all(blocks)
        pool.share(blocks[0])
        with pytest.raises(RuntimeError, match=words):
            pool.take()


def test_times_of_contents_by_hand() -> None:
    """Computed at 1 s, found at 3 s and 3.5 s, idle from 4 s and evicted at 10 s."""
    pool = BlockPool(1)
    pool.now = 1.0
    block = pool.take()
    pool.keep([CachedBlock(block)])
    pool.now = 2.0
    pool.release(block)
    for pool.now in (3.0, 3.5):
        assert pool.reuse([block]) == (pool.now == 3.0)
    pool.now = 4.0
    assert pool.release_all([block, block]) == 1
    pool.now = 10.0
    pool.take()
    times = pool.times
    for durations, expected in (
        (times.lifetimes, [9.0]),
        (times.idle_times, [6.0]),
        (times.gaps, [0.5, 2.0]),
    ):
        bins = [0] * (len(EDGES) + 1)
        for seconds in expected:
            bins[sum(edge <= seconds for edge in EDGES)] += 1
        assert durations.counts == bins


def test_edges_are_a_quarter_of_a_power_of_ten_apart() -> None:
    assert (EDGES[0], EDGES[-1], EDGES[12]) == (0.001, 100_000.0, 1.0)
    ratios = [later / earlier for earlier, later in pairwise(EDGES)]
    assert ratios == pytest.approx([10**0.25] * 32, rel=1e-3)


def test_s3_fifo_finds_the_idle_block_behind_owned_ones() -> None:
    """The main queue holds owned blocks alone, and the small one, which is short, the only idle block."""
    policy = EVICTIONS["s3-fifo"]()
    owned = [CachedBlock(number, key=bytes([number])) for number in range(30)]
    policy.add(owned)
    policy.remove(owned)
    late = CachedBlock(99, key=b"late")
    policy.add([late])
    policy.remove([late])
    idle = CachedBlock(100, key=b"idle")
    policy.add([idle])
    assert policy.evict(1) == [idle]
    policy.add(owned[:1])
    assert policy.evict(1) == owned[:1]
