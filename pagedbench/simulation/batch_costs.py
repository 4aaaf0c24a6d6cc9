"""BatchCosts: the seconds of a batch from what it computes, reads and moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as Items

    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.moves import Copy
    from pagedbench.scheduling.batch import Batch, Prefill


@dataclass(frozen=True, slots=True)
class BatchCosts:
    """What determines the seconds of an iteration, for one model on one device (all ranks together).

    Attributes:
        source: the source of the numbers, in words.
        layers: seconds of 0, 1, 2 … tokens in all layers, without attention.
        head: seconds of 0, 1, 2 … rows in the output projection.
        step: seconds per iteration that computes anything.
        request: seconds per running request.
        sequence: seconds per decoding sequence.
        prompt: seconds per prompt, or chunk of one.
        context: seconds per token whose keys and values decoding attention reads.
        pair: seconds per query and key of a prompt, causal pairs only.
        copy: seconds per token copied between slots.
        swap, move: seconds per token, and per block, moved to or from the host.
        attention: the cost of paged attention in words; empty for contiguous attention.
        windows: for each kind of layers whose queries see a limited number of keys, their share of all
            layers, and that number; `context` and `pair` are costs of all layers together.
    """

    source: str
    layers: tuple[float, ...]
    head: tuple[float, ...]
    step: float
    request: float
    sequence: float
    prompt: float
    context: float
    pair: float
    copy: float
    swap: float
    move: float
    attention: str = ""
    windows: tuple[tuple[float, int], ...] = ()

    def step_time(self, batch: Batch) -> float:
        """The seconds that a batch takes, padding included."""
        num_decodes = len(batch.decodes)
        num_rows, num_tokens, seconds = num_decodes, num_decodes, 0.0
        if batch.prefills:
            num_tokens += batch.num_computed_prefill_tokens
            num_rows += sum(1 for prefill in batch.prefills if prefill.sampled)
            seconds = self.prompt * len(batch.prefills)
            seconds += self.pair * self._pairs(batch)
        if num_tokens:
            seconds += self.step + at(self.layers, num_tokens) + at(self.head, num_rows)
            seconds += self.request * batch.num_running
            seconds += self.sequence * num_decodes + self.context * self._context(batch)
        return with_moves(seconds, batch, self.copy, self.swap, self.move)

    def decode_times(self, batch: Batch, number: int) -> list[float]:
        """`step_time` of a batch that only decodes, and of its successors, in which its decodes have grown.

        The same operations in the same order. Empty with windows, whose costs depend on every sequence.
        """
        if self.windows:
            return []
        count, first, context = len(batch.decodes), batch.decode_context, self.context
        seconds = self.step + at(self.layers, count) + at(self.head, count)
        seconds += self.request * batch.num_running
        own = self.sequence * count
        return [seconds + (own + context * keys) for keys in range(first, first + number * count, count)]

    def _context(self, batch: Batch) -> float:
        """Tokens that decode attention reads, averaged over the layers."""
        context: float = batch.decode_context
        for share, most in self.windows:
            context -= share * (batch.decode_context - num_seen(batch, most))
        return context

    def _pairs(self, batch: Batch) -> float:
        """Pairs of query and key in the prompts, averaged over the layers."""
        every = sum(num_pairs(part, batch.padded_len) for part in batch.prefills)
        pairs: float = every
        for share, most in self.windows:
            pairs -= share * (
                every - sum(num_pairs(part, batch.padded_len, most) for part in batch.prefills)
            )
        return pairs


def with_moves(
    seconds: float, batch: Batch, copy: float, swap: float, move: float, *, gathered: bool = False
) -> float:
    """Add the batch's copies, and its moves to and from the host, which it waits for.

    For the costs see `BatchCosts`; with `gathered` moves, `move` is paid once per direction.
    """
    moves_out, moves_in = batch.moves_out, batch.moves_in
    if batch.copies or moves_out or moves_in:
        num_moves = bool(moves_out) + bool(moves_in) if gathered else len(moves_out) + len(moves_in)
        seconds += copy * num_slots(batch.copies)
        seconds += swap * (num_slots(moves_out) + num_slots(moves_in)) + move * num_moves
    return seconds


def num_pairs(prefill: Prefill, padded_len: int | None = None, most: int | None = None) -> int:
    """Pairs of a query and a key that it sees; padding is computed like tokens.

    Args:
        most: keys that a query sees, with a window and sinks; None: all before it.
    """
    start, stop = (prefill.start, prefill.stop) if padded_len is None else (0, padded_len)
    if most is not None and stop > most:
        full = max(start, most)  # from this position on, queries see no more than `most`
        return (stop - full) * most + (_triangle(full) - _triangle(start) if start < full else 0)
    return (stop - start) * start + (stop - start) * (stop - start + 1) // 2


def _triangle(length: int) -> int:
    return length * (length + 1) // 2


def num_seen(batch: Batch, most: int) -> int:
    """`Batch.decode_context` for layers in which a query sees at most `most` keys (window and sinks)."""
    if batch.padded_len is not None:
        return min(batch.decode_context, most * len(batch.decodes))  # rows have equal lengths
    return sum([min(sequence.num_tokens, most) for sequence in batch.decodes])


def sights(kinds: Items[LayerGroup], num_layers: int) -> tuple[tuple[int, int | None], ...]:
    """For every kind of layer, the number of layers, and the most keys that one of their queries sees."""
    return tuple(
        (len(kind.layers or range(num_layers)), None if kind.window is None else kind.window + kind.sinks)
        for kind in kinds
    )


def num_slots(copies: Items[Copy]) -> int:
    """The number of tokens that are copied or moved."""
    return sum(copy.num_slots for copy in copies) if copies else 0


def at(curve: tuple[float, ...], count: int) -> float:
    """The curve at a number of tokens or rows; beyond its end, time is proportional to the number."""
    last = len(curve) - 1
    return curve[count] if count <= last else curve[last] * count / last


def curve_through(knots: Mapping[int, float]) -> tuple[float, ...]:
    """A curve of straight lines between knots, flat up to the first one; 0 items take no time."""
    counts = sorted(knots)
    values = np.interp(np.arange(counts[-1] + 1), counts, [knots[count] for count in counts])
    values[0] = 0.0
    return tuple(values.tolist())
