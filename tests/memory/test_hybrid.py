"""Hybrid: the contract with windows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memory.contract import check_contract
from pagedbench.memory.hybrid import Hybrid
from pagedbench.memory.layer_group import LayerGroup

FULL, NARROW, SINKS = LayerGroup((0, 1)), LayerGroup((2, 3), window=4), LayerGroup((4, 5), 5, sinks=2)
GROUPS = {
    "two": (FULL, NARROW),
    "sinks": (SINKS, FULL),
    "three": (NARROW, FULL, SINKS),
    "one": (NARROW,),
    "all": (FULL,),
}


@pytest.mark.parametrize("name", GROUPS)
def test_it_keeps_the_contract(name):
    class Grouped(Hybrid):
        @classmethod
        def build(cls, pool):
            return cls(replace(pool, layer_groups=GROUPS[name]))

    counts = check_contract(Grouped, lambda memory: memory.index.pinned, num_operations=2000)
    print(counts)
