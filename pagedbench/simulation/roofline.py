"""Roofline: the costs of a decoder on a simulated card, from its shape and the card's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pagedbench.simulation import a100_times
from pagedbench.simulation.batch_costs import BatchCosts, sights
from pagedbench.simulation.block_sizes import STATED, USUAL_BLOCK_SIZE
from pagedbench.simulation.operator_times import ELEMENT_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pagedbench.simulation.cards import Card, Host
    from pagedbench.simulation.operator_times import MatrixTimes
    from pagedbench.simulation.shapes import ModelShape

    Vector = NDArray[np.float64]

MAX_TOKENS = 8192
"""Most tokens of a curve; times of larger iterations are proportional."""

CONTIGUOUS_SHARE = 0.68
"""Share of memory bandwidth that decode attention over contiguous keys and values reaches."""

VECTOR_SHARE = 0.06
"""Share of the card's peak that decode attention reaches: it uses vector units, not matrix units."""

PREFILL_SHARE = 0.385
"""Share of the card's peak that a prompt's attention reaches: 120 of 312 TFLOP/s."""

COPY_SHARE = 0.75
"""Share of memory bandwidth that copies reach, like memory-bound operators (measured: 0.74-0.78)."""

MOVE_SECONDS = 3e-6
"""Time to start one copy over the bus; fits the paper's Fig. 19a (256 tokens in blocks of 1 to 256)."""

ALL_REDUCE_SECONDS = 50e-6
"""Fixed time of an all-reduce within one node of 4 or 8 A100s (see `cards.CARDS`)."""


def roofline_costs(
    shape: ModelShape,
    card: Card,
    num_ranks: int,
    attention: str,
    host: Host,
    block_size: int = USUAL_BLOCK_SIZE,
    kv_share: float = 1.0,
) -> BatchCosts:
    """The costs of an engine on `num_ranks` such cards, which share every layer.

    Args:
        attention: "paged" or "contiguous", the layout that decode attention reads.
        host: the engine's own program.
        block_size: tokens per block, for paged attention.
        kv_share: bytes of keys and values, as a share of those in 16 bits.
    """
    matrices = a100_times.MATRICES_BY_WIDTH.get(shape.hidden_size, a100_times.MATRICES)
    tokens = np.arange(1, MAX_TOKENS + 1, dtype=np.float64)
    head = matrices.seconds(tokens, shape.hidden_size, np.ceil(shape.vocab_size / num_ranks), card)
    kv_bytes = shape.num_layers * kv_row(shape, num_ranks) * ELEMENT_SIZE * kv_share  # a token and rank
    products = 4.0 * shape.num_layers * np.ceil(shape.num_heads / num_ranks) * shape.head_dim  # of a pair
    reading = kv_bytes / (CONTIGUOUS_SHARE * card.bandwidth)
    context = max(reading, products / (VECTOR_SHARE * card.peak))
    return BatchCosts(
        source=_source(shape, card, host),
        attention=STATED.words(block_size) if attention == "paged" else "",
        layers=(0.0, *_layers(shape, card, num_ranks, matrices, tokens).tolist()),
        head=(0.0, *head.tolist()),
        step=host.step + (host.parallel if num_ranks > 1 else 0.0),
        request=host.request,
        sequence=0.0,
        prompt=0.0,
        context=context * (STATED.at(block_size) if attention == "paged" else 1.0),
        pair=products / (PREFILL_SHARE * card.peak),
        copy=2 * kv_bytes / (COPY_SHARE * card.bandwidth),  # read and written
        swap=kv_bytes / card.bus,
        move=MOVE_SECONDS * 2 * shape.num_layers,  # keys and values of each layer
        windows=tuple(
            (number / shape.num_layers, most)
            for number, most in sights(shape.layer_groups, shape.num_layers)
            if most is not None
        ),
    )


def kv_row(shape: ModelShape, num_ranks: int) -> int:
    """Numbers in a token's keys and values in one layer on each rank; a head is never divided."""
    return 2 * max(-(-shape.num_kv_heads // num_ranks), 1) * shape.head_dim


def _layers(shape: ModelShape, card: Card, num_ranks: int, matrices: MatrixTimes, tokens: Vector) -> Vector:
    """Seconds of all layers without attention, and of the final norm.  # [num_counts]"""
    layer = np.zeros_like(tokens)
    for inner, columns in layer_matrices(shape, num_ranks):
        layer += matrices.seconds(tokens, inner, columns, card)
    for kind, width in _layer_elementwise(shape, num_ranks):
        layer += a100_times.PASSES.seconds(kind, ELEMENT_SIZE * tokens * width, card)
    if num_ranks > 1:
        layer += 2 * all_reduce_seconds(ELEMENT_SIZE * tokens * shape.hidden_size, num_ranks, card)
    size = ELEMENT_SIZE * tokens * 2 * shape.hidden_size
    return shape.num_layers * layer + a100_times.PASSES.seconds("norm", size, card)


def layer_matrices(
    shape: ModelShape, num_ranks: int, ffn_size: int | None = None
) -> Iterator[tuple[float, float]]:
    """Inner size and columns of each matrix product of a layer, on one rank.

    Args:
        ffn_size: size of the feed-forward; None: the shape's; 0: there is none.
    """
    attention = shape.num_heads * shape.head_dim / num_ranks
    yield shape.hidden_size, attention + kv_row(shape, num_ranks)
    yield attention, shape.hidden_size
    size = shape.ffn_size if ffn_size is None else ffn_size
    if size:
        yield shape.hidden_size, (2 if shape.is_gated else 1) * (size / num_ranks)
        yield size / num_ranks, shape.hidden_size


def _layer_elementwise(shape: ModelShape, num_ranks: int) -> Iterator[tuple[str, float]]:
    """Kind of each elementwise operator of a layer, and the numbers it reads and writes per token."""
    yield from (("norm", 2 * shape.hidden_size),) * 2
    yield "add", 3 * shape.hidden_size
    yield "add", 2 * kv_row(shape, num_ranks)  # keys and values, into their slots
    if shape.is_gated:
        rotated = shape.num_heads * shape.head_dim / num_ranks + kv_row(shape, num_ranks) / 2
        yield "rotary", 2 * rotated
        yield "activation", 3 * shape.ffn_size / num_ranks
    else:
        yield "activation", 2 * shape.ffn_size / num_ranks


def all_reduce_seconds(size: Vector, num_ranks: int, card: Card) -> Vector:
    """Seconds of an all-reduce of `size` bytes on every rank, in a ring."""
    return ALL_REDUCE_SECONDS + 2 * (num_ranks - 1) / num_ranks * size / card.link


def _source(shape: ModelShape, card: Card, host: Host) -> str:
    is_measured = shape.hidden_size in a100_times.MATRICES_BY_WIDTH and card.name.startswith("a100")
    layers = "layers of this width" if is_measured else "layers of other widths"
    return (
        f"{host.cost_model}: {card.words}, kernels fitted to {a100_times.SOURCE}, {layers}; {host.source}"
    )
