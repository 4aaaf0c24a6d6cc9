"""What every memory manager promises, over thousands of random operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memory.contract import check_contract
from pagedbench.config import RunConfig
from pagedbench.memory.evictions import EVICTIONS, Ttl
from pagedbench.plan import DEFAULT_KV_SLOTS
from pagedbench.systems import SYSTEMS, build_memory

if TYPE_CHECKING:
    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.memory.paged import Paged


@pytest.mark.parametrize("system", SYSTEMS)
def test_contract(system: str) -> None:
    def pinned_blocks(memory: Paged) -> set[int]:
        return memory.index.pinned

    manager = SYSTEMS[system].manager
    counts = check_contract(manager, pinned_blocks)
    assert not manager.has_tiers or min(counts.values()) > 50, "each tier is found, filled and passed over"


@pytest.mark.parametrize("name", EVICTIONS)
def test_contract_of_eviction_policies(name: str) -> None:
    """Blocks are released, found again and evicted; what is read is always what was written."""
    memories: list[Paged] = []

    def make() -> EvictionPolicy:
        policy = Ttl(3.0) if name == "ttl" else EVICTIONS[name]()
        policy.foresee({number: [number] for number in range(9)})
        return policy

    def pinned_blocks(memory: Paged) -> set[int]:
        memories.append(memory)
        return memory.index.pinned

    check_contract(SYSTEMS["paged"].manager, pinned_blocks, eviction=make, num_operations=400)
    assert sum(memory.num_evicted for memory in memories) > 20


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_capacity_for_every_system(system: str) -> None:
    config = RunConfig(system=system, max_model_len=2048, batch_size=7)
    assert build_memory(config, DEFAULT_KV_SLOTS).usage(head_refused=False).free == DEFAULT_KV_SLOTS
