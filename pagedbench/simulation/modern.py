"""Today's engines: the time of an iteration from the kernels that it launches, for any decoder and card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.simulation.a100_times import PASSES
from pagedbench.simulation.batch_costs import at, num_seen, sights, with_moves
from pagedbench.simulation.block_sizes import STATED, USUAL_BLOCK_SIZE
from pagedbench.simulation.cards import CARDS
from pagedbench.simulation.modern_times import SOURCE, TIMES
from pagedbench.simulation.operator_times import ELEMENT_SIZE
from pagedbench.simulation.roofline import COPY_SHARE, MAX_TOKENS, MOVE_SECONDS, kv_row, layer_matrices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pagedbench.scheduling.batch import Batch
    from pagedbench.simulation.cards import Card, Host
    from pagedbench.simulation.experts import Experts
    from pagedbench.simulation.kernel_times import DecodeTimes, PrefillTimes, Series
    from pagedbench.simulation.modern_times import CardTimes
    from pagedbench.simulation.shapes import ModelShape

    Vector = NDArray[np.float64]

GATHERED = "swaps gathered into one transfer per step and direction"
"""Today's engines do so; in the paper's engine every block of every layer crosses the bus by itself."""

GRAPH_TOKENS = 512
"""Iterations of up to this many tokens run from CUDA graphs, as vLLM captures them by default."""


@dataclass(frozen=True, slots=True)
class KernelCosts:
    """What determines the seconds of an iteration, the same on every rank.

    Attributes:
        source: the source of the numbers, in words.
        attention: the cost of attention over blocks, in words; empty for contiguous attention.
        layers: seconds of 0, 1, 2 … tokens in all layers, without attention.
        head: seconds of 0, 1, 2 … rows in the output projection.
        step: seconds of the host per iteration that computes anything.
        heads, kv_heads: numbers of heads of one rank.
        blocks: the time of decode attention at this block size, as a multiple of that at the measured one.
        copy: seconds per token copied between slots.
        swap: seconds per token moved to or from the host.
        transfer: seconds to start a transfer; all moves of an iteration in one direction are one.
        sights: for every kind of layer, their number, and the most keys that one of their queries sees.
        kv_share: bytes of keys and values, as a share of those in 16 bits.
    """

    source: str
    attention: str
    layers: tuple[float, ...]
    head: tuple[float, ...]
    step: float
    heads: int
    kv_heads: int
    head_dim: int
    decode: DecodeTimes
    prefill: PrefillTimes
    card: Card
    blocks: float
    copy: float
    swap: float
    transfer: float
    sights: tuple[tuple[int, int | None], ...]
    kv_share: float = 1.0

    def step_time(self, batch: Batch) -> float:
        """Seconds that the batch takes, padding included."""
        num_decodes = len(batch.decodes)
        num_rows, num_tokens, seconds = num_decodes, num_decodes, 0.0
        shape = (self.heads, self.kv_heads, self.head_dim, self.card)
        if batch.prefills:
            num_tokens += batch.num_computed_prefill_tokens
            num_rows += sum(1 for prefill in batch.prefills if prefill.sampled)
            length = batch.padded_len
            parts = [(part.start, part.stop) if length is None else (0, length) for part in batch.prefills]
            for num_layers, most in self.sights:
                seconds += num_layers * self.prefill.seconds(parts, *shape, most=most)
        if num_decodes:
            for num_layers, most in self.sights:
                context = batch.decode_context if most is None else num_seen(batch, most)
                attention = self.decode.seconds(num_decodes, context, *shape, self.kv_share)
                seconds += num_layers * self.blocks * attention
        if num_tokens:
            seconds += self.step + at(self.layers, num_tokens) + at(self.head, num_rows)
        return with_moves(seconds, batch, self.copy, self.swap, self.transfer, gathered=True)

    def series(self, num_decodes: int) -> Series:
        """`step_time` of consecutive batches that only decode the same sequences.

        Empty with windows, whose costs depend on every sequence.
        """
        num_layers, most = self.sights[0]
        if len(self.sights) > 1 or most is not None:
            return lambda first, number: []
        shape = (self.heads, self.kv_heads, self.head_dim, self.card, self.kv_share)
        rest = self.step + at(self.layers, num_decodes) + at(self.head, num_decodes)
        return self.decode.series(num_decodes, *shape, factor=num_layers * self.blocks, rest=rest)


def modern_costs(
    shape: ModelShape,
    card: Card,
    num_ranks: int,
    attention: str,
    host: Host,
    block_size: int = USUAL_BLOCK_SIZE,
    kv_share: float = 1.0,
) -> KernelCosts:
    """The costs of today's engines on `num_ranks` cards that share every layer.

    The measured attention reads blocks; over contiguous memory it is assumed to take the same time.

    Args:
        attention: "paged" or "contiguous", the layout that decode attention reads.
        kv_share: bytes of keys and values, as a share of those in 16 bits.
    """
    times = TIMES[card.kernels]
    tokens = np.arange(1, MAX_TOKENS + 1, dtype=np.float64)
    head = times.gemm.seconds(tokens, shape.hidden_size, np.ceil(shape.vocab_size / num_ranks), card)
    kv_bytes = shape.num_layers * kv_row(shape, num_ranks) * ELEMENT_SIZE * kv_share  # a token and rank
    factor = STATED.at(block_size) / STATED.at(USUAL_BLOCK_SIZE) if attention == "paged" else 1.0
    kernels = f"{card.words}, {times.source}"
    return KernelCosts(
        source=f"{host.cost_model}: {kernels}; {GATHERED}; {host.source}",
        attention=_attention(block_size, factor) if attention == "paged" else "",
        layers=(0.0, *_layers(shape, card, num_ranks, times, tokens).tolist()),
        head=(0.0, *head.tolist()),
        step=host.step,
        heads=-(-shape.num_heads // num_ranks),
        kv_heads=max(-(-shape.num_kv_heads // num_ranks), 1),
        head_dim=shape.head_dim,
        decode=times.decode,
        prefill=times.prefill,
        card=card,
        blocks=factor,
        copy=2 * kv_bytes / (COPY_SHARE * card.bandwidth),  # read and written
        swap=kv_bytes / card.bus,
        transfer=MOVE_SECONDS,
        sights=sights(shape.layer_groups, shape.num_layers),
        kv_share=kv_share,
    )


def _attention(block_size: int, factor: float) -> str:
    if block_size >= USUAL_BLOCK_SIZE:
        return f"as measured over blocks ({SOURCE})"
    return f"{factor:.3g} x at blocks of {block_size}, relative to {USUAL_BLOCK_SIZE}; {STATED.source}"


def _layers(shape: ModelShape, card: Card, num_ranks: int, times: CardTimes, tokens: Vector) -> Vector:
    """Seconds of all layers without attention, and of the final norm.  # [num_counts]"""
    final = _pass_seconds("norm", ELEMENT_SIZE * tokens * 2 * shape.hidden_size, times, card)
    experts = shape.experts
    if experts is None:
        return shape.num_layers * _layer(shape, shape.ffn_size, card, num_ranks, times, tokens) + final
    sparse = _layer(shape, experts.shared_ffn_size, card, num_ranks, times, tokens)
    sparse += _expert_seconds(shape.hidden_size, experts, card, num_ranks, times, tokens)
    total = (shape.num_layers - experts.num_dense_layers) * sparse + final
    if experts.num_dense_layers:
        total += experts.num_dense_layers * _layer(shape, shape.ffn_size, card, num_ranks, times, tokens)
    return total


def _layer(
    shape: ModelShape, ffn_size: int, card: Card, num_ranks: int, times: CardTimes, tokens: Vector
) -> Vector:
    """Seconds of a layer whose feed-forward has this size, without attention.  # [num_counts]"""
    layer = np.zeros_like(tokens)
    for inner, columns in layer_matrices(shape, num_ranks, ffn_size):
        layer += times.gemm.seconds(tokens, inner, columns, card)
    for kind, width in _fused_passes(shape, ffn_size, num_ranks):
        layer += _pass_seconds(kind, width * ELEMENT_SIZE * tokens, times, card)
    if num_ranks > 1:
        link = card.link / CARDS[card.kernels].link  # of this card, as a multiple of the measured one's
        size = ELEMENT_SIZE * tokens * shape.hidden_size / link
        graph, eager = (
            reduce.seconds(size, num_ranks) for reduce in (times.reduce_graph, times.reduce_eager)
        )
        layer += 2 * np.where(tokens <= GRAPH_TOKENS, graph, eager)
    return layer


def _expert_seconds(
    hidden: int, experts: Experts, card: Card, num_ranks: int, times: CardTimes, tokens: Vector
) -> Vector:
    """Seconds of a layer's router and of the experts that it chooses; the ranks share each expert.

    The router is a product and a pass over its scores to find the best.  # [num_counts]
    """
    router = times.gemm.seconds(tokens, hidden, experts.number, card)
    router += _pass_seconds("norm", ELEMENT_SIZE * tokens * experts.number, times, card)
    size = experts.ffn_size / num_ranks
    chosen = times.experts.seconds(tokens, hidden, size, experts.number, experts.per_token, card)
    return router + chosen


def _pass_seconds(kind: str, size: Vector, times: CardTimes, card: Card) -> Vector:
    """Seconds of one elementwise kernel: its bytes at the share measured on A100, or at least a launch."""
    share: float = getattr(PASSES, kind)
    return np.asarray(
        np.hypot(times.gemm.launch + times.gemm.wave, size / (share * card.bandwidth)), dtype=np.float64
    )


def _fused_passes(shape: ModelShape, ffn_size: int, num_ranks: int) -> Iterator[tuple[str, float]]:
    """Kind of each elementwise kernel of a layer, and the numbers it reads and writes per token.

    The norms include the residual sums, and writing keys and values includes the rotation.
    """
    yield from (("norm", 4 * shape.hidden_size),) * 2
    attention = shape.num_heads * shape.head_dim / num_ranks + kv_row(shape, num_ranks)
    yield "rotary", 2 * attention
    if ffn_size:
        yield "activation", (3 if shape.is_gated else 2) * ffn_size / num_ranks
