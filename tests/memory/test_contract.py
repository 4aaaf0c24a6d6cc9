"""What every memory manager promises, over thousands of random operations."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from memory.contents import group_of, text_of
from memory.crowd import Crowd
from pagedbench.config import RunConfig
from pagedbench.memory.paged import Paged
from pagedbench.plan import DEFAULT_KV_SLOTS
from pagedbench.systems import SYSTEMS, build_memory

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager

MAX_MODEL_LEN = 96
ROOMIER = 8
"""Contiguous managers need larger pools to hold as many sequences."""

NUM_OPERATIONS = 10_000
NUM_EXAMPLES = 160
DICE = st.integers(0, 2**32)


class ManagerMachine(RuleBasedStateMachine):
    """Hypothesis decides what arrives and what happens next, dice decide to whom."""

    system = ""
    num_operations = 0

    @initialize(
        num_blocks=st.integers(1, 50),
        block_size=st.sampled_from([1, 2, 3, 8]),
        batch_size=st.integers(1, 6),
        host_blocks=st.integers(0, 40),
        prefix_caching=st.booleans(),
        registered=st.lists(st.integers(1, 12), max_size=2),
    )
    def build(
        self,
        num_blocks: int,
        block_size: int,
        batch_size: int,
        host_blocks: int,
        prefix_caching: bool,
        registered: list[int],
    ) -> None:
        self.num_groups = 0
        num_blocks = max(num_blocks, batch_size) * (1 if self.system == "paged" else ROOMIER)
        num_slots = num_blocks * block_size + block_size - 1
        config = RunConfig(
            system=self.system, block_size=block_size, max_model_len=MAX_MODEL_LEN, batch_size=batch_size
        )
        memory: KVManager = build_memory(config, num_slots)
        assert memory.num_slots == num_blocks * block_size
        if self.system != "paged":
            self.crowd = Crowd(memory)
            return
        paged = Paged(
            num_slots,
            block_size,
            MAX_MODEL_LEN,
            host_slots=host_blocks * block_size,
            prefix_caching=prefix_caching,
        )
        for text, length in enumerate(registered):
            if length // block_size < paged.pool.num_free // 2:
                paged.register_prefix(text_of(text, length))
        pinned = (block * block_size + i for block in paged.index.pinned for i in range(block_size))
        self.crowd = Crowd(paged, frozenset(pinned))

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
        self.crowd.end()
        type(self).num_operations += self.crowd.num_operations


@pytest.mark.parametrize("system", SYSTEMS)
def test_contract(system: str) -> None:
    machine = type("Machine", (ManagerMachine,), {"system": system, "num_operations": 0})
    case = machine.TestCase
    case.settings = settings(
        max_examples=NUM_EXAMPLES,
        stateful_step_count=50,
        suppress_health_check=list(HealthCheck),
    )
    number = 0
    while machine.num_operations < NUM_OPERATIONS:
        if case.settings.derandomize:  # without a seed of its own each round would be the first again
            seed(number)(machine)
        case("runTest").runTest()
        number += 1


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_capacity_for_every_system(system: str) -> None:
    config = RunConfig(system=system, max_model_len=2048, batch_size=7)
    assert build_memory(config, DEFAULT_KV_SLOTS).usage(head_refused=False).free == DEFAULT_KV_SLOTS
