"""BatchCosts: the seconds of a batch from what it computes, reads and moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as Items

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
        prompt: seconds per prompt, or part of one.
        context: seconds per token whose keys and values decoding attention reads.
        pair: seconds per query and key of a prompt, causal pairs only.
        copy: seconds per token copied between slots.
        swap, move: seconds per token, and per block, moved to or from the host.
        attention: the cost of paged attention in words; empty for contiguous attention.
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

    def step_time(self, batch: Batch) -> float:
        """The seconds that a batch takes, padding included."""
        num_decodes = len(batch.decodes)
        num_rows, num_tokens, seconds = num_decodes, num_decodes, 0.0
        if batch.prefills:
            num_tokens += batch.num_computed_prefill_tokens
            num_rows += sum(1 for prefill in batch.prefills if prefill.sampled)
            seconds = self.prompt * len(batch.prefills)
            seconds += self.pair * sum(num_pairs(part, batch.padded_len) for part in batch.prefills)
        if num_tokens:
            seconds += self.step + at(self.layers, num_tokens) + at(self.head, num_rows)
            seconds += self.request * batch.num_running
            seconds += self.sequence * num_decodes + self.context * batch.decode_context
        return with_moves(seconds, batch, self.copy, self.swap, self.move)


def with_moves(
    seconds: float, batch: Batch, copy: float, swap: float, move: float, *, gathered: bool = False
) -> float:
    """Add the batch's copies, and its moves to and from the host, which it waits for.

    For the costs see `BatchCosts`; with moves `gathered`, `move` is paid once a direction.
    """
    moves_out, moves_in = batch.moves_out, batch.moves_in
    if batch.copies or moves_out or moves_in:
        num_moves = bool(moves_out) + bool(moves_in) if gathered else len(moves_out) + len(moves_in)
        seconds += copy * num_slots(batch.copies)
        seconds += swap * (num_slots(moves_out) + num_slots(moves_in)) + move * num_moves
    return seconds


def num_pairs(prefill: Prefill, padded_len: int | None = None) -> int:
    """Pairs of a query and a key that it sees; padding is computed like tokens."""
    start, stop = (prefill.start, prefill.stop) if padded_len is None else (0, padded_len)
    return (stop - start) * start + (stop - start) * (stop - start + 1) // 2


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
