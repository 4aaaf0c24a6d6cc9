"""LayerGroup: layers that keep the same tokens of a sequence; and the division into equal groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

MAX_GROUPS = 8
"""Most equal groups that a model's layers are divided into, unless it has more kinds of layers."""

LONG = 8
"""Padding is weighed for a sequence this many times as long as the longest window."""


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """The layers of a model that keep the same tokens, and which tokens these are.

    ::

        window 4, sinks 2, a sequence of 11 tokens:    0 1 . . . . . 7 8 9 10

    Attributes:
        layers: numbers of the layers; None: every layer of the model.
        window: tokens that a query sees, itself included; None: all before it.
        sinks: first tokens of the sequence that every query sees as well (StreamingLLM).
    """

    layers: tuple[int, ...] | None = None
    window: int | None = None
    sinks: int = 0

    def kept(self, length: int) -> tuple[range, range]:
        """The positions that the newest of `length` tokens sees, sinks and window.

        No later token sees any other position.
        """
        start = 0 if self.window is None else max(length - self.window, 0)
        return range(min(self.sinks, start)), range(start, length)

    def num_kept(self, length: int) -> int:
        """How many of `length` tokens are kept."""
        return length if self.window is None else min(length, self.window + self.sinks)

    def num_sink_blocks(self, block_size: int) -> int:
        """Blocks at the beginning of a sequence that hold sinks; 0 for a group without a window."""
        return 0 if self.window is None else -(-self.sinks // block_size)

    def blocks(self, start: int, stop: int, block_size: int) -> tuple[range, range]:
        """Numbers of the blocks that positions `start` to `stop` - 1 write or see when they are computed.

        Returns those of the sinks and those of the window; a gap between the two is not needed.
        """
        end, num_sinks = -(-stop // block_size), self.num_sink_blocks(block_size)
        first = 0 if self.window is None else max(start - self.window + 1, 0) // block_size
        return range(min(num_sinks, end)), range(max(first, num_sinks), end)

    def most_blocks(self, num_new: int, block_size: int) -> int | None:
        """The most blocks held by a sequence that computes `num_new` tokens at a time; None: all."""
        if self.window is None:
            return None
        return self.num_sink_blocks(block_size) + (self.window + num_new - 2) // block_size + 2


ALL_LAYERS = LayerGroup()
"""The only group of a model whose layers all keep every token."""


def equal_groups(kinds: Items[LayerGroup]) -> tuple[LayerGroup, ...]:
    """Divide layers into groups of one size, so that blocks of all groups have equal bytes.

    Layers of one kind are divided in their order; the last group of a kind may have fewer layers than the
    others, and the rest of its blocks' bytes is padding. Of the sizes that give at most `MAX_GROUPS` groups
    the one with the least padding is taken; among equals, the largest: Gemma 3 with 40 windowed layers and
    8 others has 6 groups of 8 layers. Padding counts by the tokens that a group keeps of a long sequence.

    Args:
        kinds: the layers by window and sinks; one kind alone is one group.
    """
    if len(kinds) == 1:
        return tuple(kinds)
    layers = {kind: kind.layers or () for kind in kinds}
    length = LONG * max(kind.window or 1 for kind in kinds)

    def num_groups(size: int) -> int:
        return sum(-(-len(own) // size) for own in layers.values())

    def padding(size: int) -> int:
        return sum(-len(own) % size * kind.num_kept(length) for kind, own in layers.items())

    sizes = range(max(map(len, layers.values())), 0, -1)
    few = [size for size in sizes if num_groups(size) <= max(MAX_GROUPS, len(kinds))]
    size = min(few, key=padding)
    return tuple(
        LayerGroup(own[start : start + size], kind.window, kind.sinks)
        for kind, own in layers.items()
        for start in range(0, len(own), size)
    )


def has_windows(groups: Items[LayerGroup]) -> bool:
    """Does any of these layers keep less than all tokens?"""
    return any(group.window is not None for group in groups)


def num_padded_layers(groups: Items[LayerGroup]) -> int:
    """Layers that would be needed to make the smaller groups as large as the largest."""
    sizes = [len(group.layers or ()) for group in groups]
    return sum(max(sizes) - size for size in sizes)
