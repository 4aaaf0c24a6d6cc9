"""What every memory manager promises, over thousands of random operations."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest

from memory.contract import NUM_OPERATIONS, check_contract
from pagedbench.config import RunConfig
from pagedbench.memory.evictions import EVICTIONS, Ttl
from pagedbench.memory.pages import KeptPages, PageSpec
from pagedbench.memory.virtual.extents import VirtualExtents
from pagedbench.plan import DEFAULT_KV_SLOTS
from pagedbench.systems import SYSTEMS, build_memory

if TYPE_CHECKING:
    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.memory.paged import Paged
    from pagedbench.memory.pages import PageCounts
    from pagedbench.memory.pool_spec import PoolSpec


@pytest.mark.parametrize("system", SYSTEMS)
def test_contract(system: str) -> None:
    def pinned_blocks(memory: Paged) -> set[int]:
        return memory.index.pinned

    manager = SYSTEMS[system].manager
    num_operations = 6000 if manager.has_tiers else NUM_OPERATIONS
    counts = check_contract(manager, pinned_blocks, num_operations=num_operations)
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


@pytest.mark.parametrize("kept", KeptPages)
@pytest.mark.parametrize(("row_bytes", "ahead"), [(3, 0), (5, 4)])
def test_contract_of_pages_that_hold_parts_of_tokens(kept: KeptPages, row_bytes: int, ahead: int) -> None:
    """A page holds 1/5 to 2 2/3 tokens; pages are kept or not, and committed ahead of need or not."""
    counts: list[PageCounts] = []

    class Odd(VirtualExtents):
        @classmethod
        def build(cls, pool: PoolSpec) -> Odd:
            spec = PageSpec(row_bytes, pool.block_size, ahead, kept)
            memory = super().build(replace(pool, pages=spec))
            counts.append(memory.pages.counts)
            return memory

    check_contract(Odd, num_operations=600)
    found = {name: sum(getattr(item, name) for item in counts) for name in asdict(counts[0])}
    assert min(found["committed"], found["given_back"]) > 100
    assert (found["reused"] > 100) == (kept is KeptPages.REUSE)
    assert (found["ahead"] > 100) == (ahead > 0)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_capacity_for_every_system(system: str) -> None:
    config = RunConfig(system=system, max_model_len=2048, batch_size=7)
    assert build_memory(config, DEFAULT_KV_SLOTS).usage(head_refused=False).free == DEFAULT_KV_SLOTS
