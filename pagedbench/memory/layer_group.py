"""LayerGroup: layers that keep the same tokens of a sequence: all of them, or a window and sinks."""

from __future__ import annotations

from dataclasses import dataclass


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


ALL_LAYERS = LayerGroup()
"""The only group of a model whose layers all keep every token."""
