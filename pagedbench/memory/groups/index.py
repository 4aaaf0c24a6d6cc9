"""GroupedIndex: which blocks hold which prefixes of prompts, in several layer groups with windows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pagedbench.memory.prefix import PrefixIndex, reply_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Sequence as Items

    from pagedbench.memory.eviction import CachedBlock
    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.placement import BlockTable
    from pagedbench.memory.prefix import Key
    from pagedbench.request import Sequence, SequenceGroup


@dataclass(slots=True)
class Hit:
    """What a prompt finds in the cache: in each layer group, only the blocks that its window still sees.

    Attributes:
        num_blocks: blocks of the prompt that need not be computed.
        device: for each layer group, blocks of the device by their number in the prompt; after those that
            need not be computed also pinned ones, which are yet to be computed.
        elsewhere: layer group, number in the prompt, and key of the blocks that are in lower tiers.
    """

    num_blocks: int
    device: list[dict[int, int]]
    elsewhere: list[tuple[int, int, Key]] = field(default_factory=list)

    @property
    def blocks(self) -> list[int]:
        """The blocks of the device."""
        return [block for found in self.device for block in found.values()]


class GroupedIndex(PrefixIndex):
    """Blocks by layer group and key: equal tokens have different contents in different layers.

    ::

        block         0   1   2   3   4   5   6
        all layers    x   x   x   x   x   x   .      a hit of 6 blocks needs these,
        window        .   x   x   .   x   x   .      and of these the last two, if the window is two blocks
    """

    def __init__(self, block_size: int, groups: Items[LayerGroup]) -> None:
        super().__init__(block_size)
        self._groups = groups

    def hit(self, group: SequenceGroup, is_elsewhere: Callable[[Key], bool] | None = None) -> Hit:
        """The longest prefix of the prompt of which every layer group has the blocks that it needs.

        Args:
            is_elsewhere: does a lower tier hold the content with this key?
        """
        keys = self._keys_of(group)[: self._most(group)]
        length = self._longest(keys, is_elsewhere)
        hit = Hit(length, [{} for _ in self._groups])
        for number, layers in enumerate(self._groups):
            position = length * self.block_size
            for part in layers.blocks(position, position, self.block_size):
                for index in part:
                    key = (number, keys[index])
                    block = self._block_of.get(key)
                    if block is not None and block not in self.uncomputed:
                        hit.device[number][index] = block
                    else:
                        hit.elsewhere.append((number, index, key))
            if self.uncomputed:
                hit.device[number] |= self._pins_behind(number, keys, length)
        return hit

    def _pins_behind(self, number: int, keys: list[Key], length: int) -> dict[int, int]:
        """Pinned blocks of a layer group from number `length` on that are not computed yet."""
        blocks = {i: self._block_of.get((number, keys[i])) for i in range(length, len(keys))}
        return {i: block for i, block in blocks.items() if block is not None and block in self.uncomputed}

    def _longest(self, keys: list[Key], is_elsewhere: Callable[[Key], bool] | None) -> int:
        """The most blocks of a prompt with these keys that need not be computed."""
        most, valid = len(keys), [True] * (len(keys) + 1)
        for number, layers in enumerate(self._groups):
            there = self._there(number, keys[:most], is_elsewhere)
            if layers.window is None:
                most = next((i for i, is_there in enumerate(there) if not is_there), most)
                continue
            for length, is_valid in enumerate(_usable(layers, list(there), self.block_size)):
                valid[length] &= is_valid
        return next(length for length in range(most, -1, -1) if valid[length])

    def _there(
        self, number: int, keys: list[Key], is_elsewhere: Callable[[Key], bool] | None
    ) -> Iterator[bool]:
        """For each key, whether the layer group can have its content without computing it."""
        for own in keys:
            key = (number, own)
            block = self._block_of.get(key)
            if block is not None and block not in self.uncomputed:
                yield True
            else:
                yield is_elsewhere is not None and is_elsewhere(key)

    def num_pinned(self, group: SequenceGroup) -> list[int]:
        """For each layer group, the pinned blocks that the prompt begins with."""
        keys, numbers = self._keys_of(group)[: self._most(group)], range(len(self._groups))
        return [
            sum(self._block_of.get((number, key)) in self.pinned for key in keys) if self.pinned else 0
            for number in numbers
        ]

    def insert_tables(
        self, group: SequenceGroup, tables: Items[BlockTable], stop: int
    ) -> list[CachedBlock]:
        """Remember those of the first `stop` blocks of a prompt that the tables still have."""
        return self._insert(self._keys_of(group)[:stop], tables)

    def insert_reply(self, sequence: Sequence, tables: Items[BlockTable]) -> list[CachedBlock]:
        """Remember the full blocks of a finished sequence, reply included; returns as `insert`."""
        prompt = self._keys_of(sequence.group)
        return self._insert(prompt + reply_keys(sequence, self.block_size, prompt), tables)

    def _insert(self, keys: list[Key], tables: Items[BlockTable]) -> list[CachedBlock]:
        new = []
        for number, table in enumerate(tables):
            sinks, late = table.num_sink_blocks, table.num_sink_blocks + table.num_gone
            named: list[Key] = [(number, key) for key in keys]
            new += self.insert(named[:sinks], table.blocks[:sinks])
            new += self.insert(named[late:], table.blocks[sinks:], first=late)
        return new


def _usable(layers: LayerGroup, there: list[bool], block_size: int) -> Iterator[bool]:
    """For hits of 0, 1, 2 … blocks: does the group have the blocks that its window then needs?"""
    num_first, num_latest = 0, 0  # the first blocks, and the latest ones, that are there without a gap
    yield True
    for length, is_there in enumerate(there, 1):
        num_latest = num_latest + 1 if is_there else 0
        num_first = length if num_latest == length else num_first
        position = length * block_size
        sinks, window = layers.blocks(position, position, block_size)
        yield len(sinks) <= num_first and len(window) <= num_latest
