"""The contract as a test: thousands of random operations on a manager, and what it promises after each."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from memory.contents import group_of, text_of
from memory.crowd import Crowd
from pagedbench.memory.pool_spec import PoolSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.memory.manager import KVManager

MAX_MODEL_LEN = 96
ROOMIER = 8
"""Managers that reserve whole replies need larger pools to hold as many sequences."""

NUM_OPERATIONS = 2000
NUM_EXAMPLES = 32
DICE = st.integers(0, 2**32)


class ManagerMachine(RuleBasedStateMachine):
    """Hypothesis decides what arrives and what happens next, dice decide to whom."""

    manager: type[KVManager]
    eviction: Callable[[], EvictionPolicy] | None
    pinned_blocks: Callable[[Any], set[int]]
    num_operations = 0
    tier_counts: Counter[str]

    @initialize(
        num_blocks=st.integers(1, 50),
        block_size=st.sampled_from([1, 2, 3, 8]),
        batch_size=st.integers(1, 6),
        host_blocks=st.integers(0, 40),
        prefix_caching=st.booleans(),
        registered=st.lists(st.integers(1, 12), max_size=2),
        tier_blocks=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    )
    def build(
        self,
        num_blocks: int,
        block_size: int,
        batch_size: int,
        host_blocks: int,
        prefix_caching: bool,
        registered: list[int],
        tier_blocks: tuple[int, int],
    ) -> None:
        self.num_groups = 0
        num_blocks = max(num_blocks, batch_size) * (1 if self.manager.preempts else ROOMIER)
        pool = PoolSpec(
            num_blocks * block_size + block_size - 1,
            block_size,
            MAX_MODEL_LEN,
            host_slots=host_blocks * block_size,
            prefix_caching=prefix_caching,
            batch_size=batch_size,
            eviction=type(self).eviction and type(self).eviction(),
            host_cache_slots=tier_blocks[0] * block_size,
            disk_cache_slots=tier_blocks[1] * block_size,
        )
        memory = self.manager.build(pool)
        assert memory.num_slots == num_blocks * block_size
        pinned = set[int]()
        if memory.caches_prefixes:
            for text, length in enumerate(registered):
                num_free = memory.usage(head_refused=False).free // block_size
                if length // block_size * len(memory.layer_groups) < num_free // 2:
                    memory.register_prefix(text_of(text, length))
            pinned = type(self).pinned_blocks(memory)
        slots = (block * block_size + i for block in pinned for i in range(block_size))
        self.crowd = Crowd(memory, frozenset(slots))

    @rule(
        text=st.integers(0, 2),
        shared_len=st.integers(0, 24),
        own_len=st.integers(0, 30),
        output_len=st.integers(1, 24),
        n=st.integers(1, 4),
    )
    def arrive(self, text: int, shared_len: int, own_len: int, output_len: int, n: int) -> None:
        own_len = max(own_len, shared_len == 0)
        group = group_of(self.num_groups, own_len, output_len, n, shared_len=shared_len, text=text)
        self.num_groups += 1
        self.crowd.arrive(group)

    @precondition(lambda self: self.crowd.running or self.crowd.waiting or self.crowd.swapped)
    @rule(dice=DICE, times=st.integers(1, 8))
    def iterate(self, dice: int, times: int) -> None:
        chance = random.Random(dice)
        for _ in range(times):
            self.crowd.iterate(chance)
            self.crowd.check()

    @precondition(lambda self: self.crowd.forkable)
    @rule(dice=DICE)
    def fork(self, dice: int) -> None:
        self.crowd.fork(random.Random(dice))
        self.crowd.check()

    def teardown(self) -> None:
        if self.crowd.memory.tiers is not None:
            counts = asdict(self.crowd.memory.tiers.counts)
            type(self).tier_counts.update(counts)
        self.crowd.end()
        type(self).num_operations += self.crowd.num_operations


def check_contract(
    manager: type[KVManager],
    pinned_blocks: Callable[[Any], set[int]] | None = None,
    *,
    eviction: Callable[[], EvictionPolicy] | None = None,
    num_operations: int = NUM_OPERATIONS,
) -> Counter[str]:
    """Drive a manager through `num_operations` random operations. Returns what its tiers did.

    Args:
        pinned_blocks: the blocks of registered prefixes, of a manager that caches prefixes.
        eviction: makes a policy for the prefix cache.
    """
    settings_of = {
        "manager": manager,
        "eviction": eviction and staticmethod(eviction),
        "pinned_blocks": pinned_blocks,
        "num_operations": 0,
        "tier_counts": Counter[str](),
    }
    machine = type("Machine", (ManagerMachine,), settings_of)
    case = machine.TestCase
    case.settings = settings(
        max_examples=NUM_EXAMPLES * num_operations // NUM_OPERATIONS,
        stateful_step_count=50,
        suppress_health_check=list(HealthCheck),
    )
    number = 0
    while machine.num_operations < num_operations:
        if case.settings.derandomize:  # without a seed of its own each round would be the first again
            seed(number)(machine)
        case("runTest").runTest()
        number += 1
    found: Counter[str] = vars(machine)["tier_counts"]
    return found
