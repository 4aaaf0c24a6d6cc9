"""Slots that hold a token which no query sees any more, because its window has passed it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from collections.abc import Sequence as Items

    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.placement import BlockTable

    Tables = Iterable[tuple[Items[BlockTable], Items[int]]]


def num_dead(table: BlockTable, layers: LayerGroup, length: int) -> int:
    """How many of the first `length` tokens are in the table, but neither in the window nor sinks."""
    if layers.window is None or length <= layers.window:
        return 0
    start, sinks_end = length - layers.window, table.num_sink_blocks * table.block_size
    behind_sinks = max(min(start, sinks_end) - layers.sinks, 0)
    return behind_sinks + max(start - max(table.first_position, sinks_end), 0)


def num_dead_shared(groups: Items[LayerGroup], tables: Tables, owners: Callable[[int], int]) -> int:
    """Slots of the tables' blocks that hold a token which no sequence needs.

    Args:
        tables: for each sequence, its tables and its numbers of tokens, one per layer group.
        owners: the number of owners of a block; owners that are not tables need all of it.
    """
    fewest, holders = dict[int, int](), Counter[int]()
    for own, lens in tables:
        for table, layers, length in zip(own, groups, lens, strict=True):
            for block, number in _dead_by_block(table, layers, length):
                fewest[block] = min(fewest.get(block, number), number)
                holders[block] += 1
    return sum(number for block, number in fewest.items() if holders[block] == owners(block))


def _dead_by_block(table: BlockTable, layers: LayerGroup, length: int) -> Iterator[tuple[int, int]]:
    """The blocks of a table with tokens that are neither in the window nor sinks, and how many."""
    size, start = table.block_size, layers.kept(length)[1].start
    for number, block in table.numbered():
        if number * size >= start:
            return
        dead = min(start, (number + 1) * size) - max(number * size, min(layers.sinks, start))
        if dead > 0:
            yield block, dead
