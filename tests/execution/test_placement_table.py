"""Placements as one array: only what changed is written."""

from __future__ import annotations

import numpy as np

from pagedbench.execution.placement_table import PlacementTable
from pagedbench.memory.layer_group import LayerGroup
from pagedbench.memory.placement import BlockTable, Extent


def table_of(*placements):
    table = PlacementTable(placements[0], pin_memory=False)
    for row, placement in enumerate(placements):
        table.write(row, placement)
    return table


def test_block_tables():
    table = table_of(BlockTable([7, 2, 9], 4), BlockTable([4], 4))
    assert table.block_size == 4
    assert table.rows(0, 2).dtype == np.int32
    assert table.rows(0, 1)[0, :3].tolist() == [7, 2, 9]
    assert table.rows(1, 2)[0, 0] == 4
    assert table.slots(np.array([0, 0, 1]), np.array([5, 8, 3])).tolist() == [9, 36, 19]
    assert table.may_change(np.array([3, 4, 8])).tolist() == [False, True, True]


def test_extents():
    table = table_of(Extent(512, 9), Extent(64, 20))
    assert table.block_size is None
    assert table.rows(0, 2).dtype == np.int64
    assert table.rows(0, 2).tolist() == [[512], [64]]
    assert table.slots(np.array([1, 0]), np.array([2, 0])).tolist() == [66, 512]
    assert not np.any(table.may_change(np.array([0, 4])))


def test_only_the_end_of_a_known_list_is_read():
    """Its last block may have been replaced, and others were added."""
    blocks = [5, 6]
    table = table_of(BlockTable(blocks, 4))
    blocks[:] = [99, 8, 3]  # a manager leaves the first one as it is
    table.write(0, BlockTable(blocks, 4))
    assert table.rows(0, 1)[0, :3].tolist() == [5, 8, 3]
    table.write(0, BlockTable([1, 2, 4], 4))
    assert table.rows(0, 1)[0, :3].tolist() == [1, 2, 4]


def test_rows_are_reordered_and_forgotten():
    lists = [[1, 2], [3], [4, 5, 6]]
    table = table_of(*(BlockTable(blocks, 4) for blocks in lists))
    table.arrange(np.array([2, -1, 0, 0]))
    table.write(1, BlockTable(lists[1], 4))
    lists[2].append(7)
    table.write(0, BlockTable(lists[2], 4))
    assert [row[0] for row in table.rows(0, 4).tolist()] == [4, 3, 1, 1]
    assert table.rows(0, 1)[0, :4].tolist() == [4, 5, 6, 7]
    table.write(4, BlockTable([8], 4))
    assert table.rows(4, 5)[0, 0] == 8


def test_tables_that_begin_late():
    """Blocks of sinks stay in front; the columns behind them begin at the first position."""
    layers = LayerGroup((0,), window=6, sinks=2)
    table = PlacementTable(BlockTable([], 4, 4, 1), pin_memory=False, layers=layers)
    table.write(0, BlockTable([7, 3, 9], 4, 16, 1))
    table.write(1, BlockTable([5, 8], 4, 4, 1))
    assert table.first_positions(0, 2).tolist() == [16, 4]
    rows, positions = np.array([0, 0, 0, 1, 1]), np.array([1, 16, 21, 3, 5])
    assert table.slots(rows, positions).tolist() == [29, 12, 37, 23, 33]
    table.arrange(np.array([1, 0]))
    assert table.first_positions(0, 2).tolist() == [4, 16]
    assert table.slots(np.array([1]), np.array([21])).tolist() == [37]
    # A block is entered at positions 20 and 24; with the token at 21 the window begins at 16.
    assert table.may_change(np.array([19, 20, 21, 22, 24])).tolist() == [False, True, True, False, True]


def test_rows_without_a_window_have_no_first_positions():
    assert table_of(BlockTable([7, 2], 4)).first_positions(0, 1) is None
