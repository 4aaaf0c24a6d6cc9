"""Seconds of today's kernels on one card, each a formula with a few coefficients fitted to measurements."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pagedbench.simulation.operator_times import ELEMENT_SIZE, tile_speeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pagedbench.simulation.cards import Card

    Vector = NDArray[np.float64]

Series: TypeAlias = "Callable[[int, int], list[float]]"
"""Seconds of consecutive iterations, from the keys of all sequences in the first, and their number."""

try:
    native_costs: Any = importlib.import_module("pagedbench.kernels._costs")
except ImportError:
    native_costs = None

SPLITS = (1, 2, 3, 4, 6, 8, 16, 32)
"""The numbers of parts into which a library may split the inner dimension of a product with few tiles."""

TILE = 128
"""Queries, and also keys, per tile of attention."""

FULL_SHARE = 0.8
"""With fewer KV heads of sequences than this share of the multiprocessors, FlashAttention splits keys."""


@dataclass(frozen=True, slots=True)
class GemmTimes:
    """Products of matrices.

    ```
    time = launch + (reading^s + computing^s)^(1/s)             s = 1 + sharpness
    reading:   bytes of both operands and the result at `bandwidth` of the memory's
    computing: whole tiles in whole waves over the multiprocessors, each after `wave` seconds, at `peak`
               of the card's; with the best of four tiles (`square` and `low`: speeds of 128 x 128 and
               64 x 128, as shares of 128 x 256's), and the best of `SPLITS` (which takes `split` seconds
               more, and writes and reads partial sums)
    ```
    """

    launch: float
    bandwidth: float
    peak: float
    sharpness: float
    square: float
    low: float
    split: float
    wave: float

    def seconds(self, rows: Vector, inner: Vector | float, columns: Vector | float, card: Card) -> Vector:
        """[rows, inner] x [inner, columns]; rows are tokens.  # [num_rows]"""
        size = ELEMENT_SIZE * (inner * columns + rows * (inner + columns))
        reading = size / (self.bandwidth * card.bandwidth)
        s = 1 + self.sharpness
        computing = self._computing(rows, inner, columns, card)
        return np.asarray(self.launch + (reading**s + computing**s) ** (1 / s), dtype=np.float64)

    def _computing(
        self, rows: Vector, inner: Vector | float, columns: Vector | float, card: Card
    ) -> Vector:
        times = []
        for height, width, speed in tile_speeds(self.square, self.low):
            num_tiles = np.ceil(rows / height) * np.ceil(columns / width)
            rate = speed * self.peak * card.peak / card.num_multiprocessors  # of one multiprocessor
            for parts in SPLITS:
                waves = np.ceil(num_tiles * parts / card.num_multiprocessors)
                time = waves * (self.wave + 2.0 * height * width * np.ceil(inner / parts) / rate)
                if parts > 1:
                    sums = 8.0 * parts * rows * columns  # bytes in float32, written and read
                    time = time + self.split + sums / (self.bandwidth * card.bandwidth)
                times.append(time)
        return np.asarray(np.minimum.reduce(times), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class DecodeTimes:
    """Attention of one layer for decoding sequences.

    ```
    time = launch + (reading^s + computing^s + alone^s)^(1/s)   s = 1 + sharpness
    reading:   keys and values, queries and results, at `bandwidth` of the memory's
    computing: `sequence` for each KV head of a sequence, and `pair` for each query head and key
    alone:     without grouped queries one block computes a KV head of a sequence, at `key` seconds per key
    ```

    The launch is `launch_plain` without grouped queries; otherwise `launch_single` for one sequence or one
    KV head; and `join` more where keys are split (more than one tile, too few blocks), because a second
    kernel joins the parts. With one KV head, reading takes longer by `far` per key of the mean sequence.
    """

    launch: float
    bandwidth: float
    sequence: float
    sharpness: float
    pair: float
    key: float
    launch_plain: float
    launch_single: float
    far: float
    join: float

    def seconds(
        self,
        num_sequences: int,
        num_keys: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        card: Card,
        kv_share: float = 1.0,
    ) -> float:
        """Seconds of all sequences together.

        Args:
            num_keys: keys of all sequences.
            kv_share: bytes of keys and values, as a share of those in 16 bits.
        """
        size = ELEMENT_SIZE * 2 * head_dim * (num_keys * kv_share * kv_heads + num_sequences * heads)
        reading = size / (self.bandwidth * card.bandwidth)
        if kv_heads == 1:
            reading *= 1 + self.far * num_keys / num_sequences
        computing = self.sequence * num_sequences * kv_heads + self.pair * num_keys * heads
        if heads > kv_heads:
            launch = self.launch_single if num_sequences == 1 or kv_heads == 1 else self.launch
            is_full = num_sequences * kv_heads >= FULL_SHARE * card.num_multiprocessors
            if num_keys > TILE * num_sequences and not is_full:
                launch += self.join
            return launch + _overlapped(1 + self.sharpness, reading, computing)
        waves = -(-num_sequences * kv_heads // card.num_multiprocessors)
        alone = waves * self.key * num_keys / num_sequences
        return self.launch_plain + _overlapped(1 + self.sharpness, reading, computing, alone)

    def series(
        self,
        num_sequences: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        card: Card,
        kv_share: float = 1.0,
        *,
        factor: float = 1.0,
        rest: float = 0.0,
    ) -> Series:
        """`factor` * `seconds` + `rest` while the sequences grow; native code gives the same bits."""
        if kv_heads == 1 or native_costs is None:
            shape = (heads, kv_heads, head_dim, card, kv_share)
            return lambda first, number: [
                factor * self.seconds(num_sequences, keys, *shape) + rest
                for keys in range(first, first + number * num_sequences, num_sequences)
            ]
        is_grouped, num_blocks = heads > kv_heads, num_sequences * kv_heads
        launch = self.launch_plain
        if is_grouped:
            launch = self.launch_single if num_sequences == 1 else self.launch
        is_full = num_blocks >= FULL_SHARE * card.num_multiprocessors
        return partial(
            native_costs.decode_times, num_sequences,
            ELEMENT_SIZE * 2 * head_dim, kv_share, kv_heads, num_sequences * heads,
            self.bandwidth * card.bandwidth, self.sequence * num_sequences * kv_heads, self.pair, heads,
            is_grouped, -(-num_blocks // card.num_multiprocessors) * self.key,
            launch, self.join, math.inf if is_full or not is_grouped else TILE * num_sequences,
            1 + self.sharpness, 1 / (1 + self.sharpness), factor, rest,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PrefillTimes:
    """Attention of one layer for prompts, or chunks of prompts.

    ```
    time = launch + (computing^s + reading^s)^(1/s)             s = 1 + sharpness
    computing: tiles of queries x keys that are not wholly masked, over the multiprocessors at `peak` of the
               card's, and `tail` of the longest row of tiles, which ends alone; `prompt` for each KV head
    reading:   queries, keys, values and results, at `bandwidth` of the memory's
    ```

    Attributes:
        rows: queries per tile.
        packs: do queries that share keys fill a tile together, whatever the prompt's length?
    """

    launch: float
    peak: float
    tail: float
    prompt: float
    sharpness: float
    bandwidth: float
    rows: int
    packs: bool

    def seconds(self, parts: list[tuple[int, int]], heads: int, kv_heads: int, head_dim: int, card: Card,
                copies: int = 1, most: int | None = None) -> float:  # fmt: skip
        """Seconds of one layer.

        Args:
            parts: for each prompt, the positions [start, stop) that are computed.
            copies: how many times all of these are computed.
            most: keys that a query sees, with a window; None: all before it.
        """
        num_tiles, longest, size = 0.0, 0, 0
        for start, stop in parts:
            width = -(-stop // TILE)
            num_rows = self._row_tiles(stop - start, heads, kv_heads)
            mean_width = start / TILE + (-(-(stop - start) // TILE) + 1) / 2
            if most is not None and stop > most:
                mean_width, width = _windowed_widths(start, stop, most)
            num_tiles += num_rows * mean_width
            longest = max(longest, width)
            num_read = stop if most is None else min(stop, stop - start + most)
            size += (stop - start) * heads + num_read * kv_heads
        tile = 4.0 * TILE * TILE * head_dim / (self.peak * card.peak / card.num_multiprocessors)
        computing = tile * (copies * num_tiles / card.num_multiprocessors + self.tail * longest)
        computing += self.prompt * copies * len(parts) * kv_heads
        reading = ELEMENT_SIZE * 2 * head_dim * copies * size / (self.bandwidth * card.bandwidth)
        return self.launch + _overlapped(1 + self.sharpness, computing, reading)

    def _row_tiles(self, length: int, heads: int, kv_heads: int) -> float:
        """Rows of tiles, in units of `TILE` queries."""
        if self.packs or length == 1:
            num_tiles = kv_heads * math.ceil(length * heads / kv_heads / self.rows)
        else:
            num_tiles = heads * math.ceil(length / self.rows)
        return num_tiles * self.rows / TILE


def _windowed_widths(start: int, stop: int, most: int) -> tuple[float, int]:
    """With a window, the tiles of keys per row of tiles: the mean, and that of the longest row.

    A row's queries see from the window of the first of them up to the last.
    """
    widest = most / TILE + 1
    widths = [min(start / TILE + row + 1, widest) for row in range(-(-(stop - start) // TILE))]
    return sum(widths) / len(widths), math.ceil(widest)


@dataclass(frozen=True, slots=True)
class AllReduceTimes:
    """Sums over all ranks of one node: a launch, a hop for each rank beyond two, and the bytes of a ring.

    ```
    time = ((launch + hop (p - 2))^s + (2 (p - 1) / p bytes / link)^s)^(1/s)      s = 0.5 + sharpness
    ```
    """

    launch: float
    link: float  # bytes per second
    sharpness: float
    hop: float

    def seconds(self, size: Vector, num_ranks: Vector | int) -> Vector:
        """`size`: bytes on every rank.  # [num_rows]"""
        s = 0.5 + self.sharpness
        start = self.launch + self.hop * (num_ranks - 2)
        ring = 2 * (num_ranks - 1) / num_ranks * size / self.link
        return np.asarray((start**s + ring**s) ** (1 / s), dtype=np.float64)


def _overlapped(s: float, *times: float) -> float:
    """The s-norm of times: their sum for s = 1, the longest for an infinite s."""
    longest = max(times)
    return float(longest * sum((time / longest) ** s for time in times) ** (1 / s))
