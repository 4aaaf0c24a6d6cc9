"""The contract: backends have its operations and no other signatures; where addresses say tokens lie."""

from __future__ import annotations

import importlib
import inspect

import pytest
import torch

from pagedbench.ops.addresses import BlockTables, Extents
from pagedbench.ops.interface import Ops

OPERATIONS = [name for name, item in vars(Ops).items() if inspect.isfunction(item) and name[0] != "_"]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("backend", ["reference", "native", "triton"])
def test_signatures(backend: str, name: str, request: pytest.FixtureRequest) -> None:
    if backend != "reference":
        request.getfixturevalue(backend)  # skips where there is none
    module = importlib.import_module(f"pagedbench.ops.{backend}")
    wanted = list(inspect.signature(getattr(Ops, name)).parameters.values())[1:]
    found = list(inspect.signature(getattr(module, name)).parameters.values())
    assert [(item.name, item.default) for item in found] == [(item.name, item.default) for item in wanted]


def test_slots_of_tables_that_begin_late() -> None:
    """The drawing in `BlockTables`: 6 sinks, blocks of 4, and what lies between is gone."""
    firsts = torch.tensor([16, 4], dtype=torch.int32)
    tables = BlockTables(torch.tensor([[7, 1, 9, 2], [3, 4, 5, 6]], dtype=torch.int32), 4, firsts)
    positions = torch.tensor([0, 5, 7, 16, 19, 20, 22])
    late, plain = tables.slots(positions, 6)
    assert late.tolist() == [28, 5, 7, 36, 39, 8, 10]
    assert plain[:3].tolist() == [12, 17, 19]
    assert tables.slots(torch.tensor([8, 15]), 6)[1].tolist() == [20, 27], "none is missing"
    assert Extents(torch.tensor([5, 50])).slots(torch.tensor([0, 3]), 6).tolist() == [[5, 8], [50, 53]]


def test_late_tables_are_picked_and_filled() -> None:
    firsts = torch.tensor([16, 4, 8], dtype=torch.int32)
    tables = BlockTables(torch.arange(12, dtype=torch.int32).view(3, 4), 4, firsts)
    picked = tables.pick(torch.tensor([2, 0]))
    assert picked.first_positions is not None
    assert picked.first_positions.tolist() == [8, 16]
    blank = tables.blank(4, 9)
    assert blank.first_positions is not None
    memory = blank.first_positions.data_ptr()
    blank.fill(picked)
    assert blank.tables.tolist() == [[8, 9, 10], [0, 1, 2], [0, 0, 0], [0, 0, 0]]
    assert blank.first_positions.tolist() == [8, 16, 0, 0]
    assert blank.first_positions.data_ptr() == memory
    with pytest.raises(AssertionError, match="both have first positions, or neither"):
        blank.fill(BlockTables(tables.tables, 4))
