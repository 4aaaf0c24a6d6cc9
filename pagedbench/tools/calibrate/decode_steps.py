"""Whole decode steps: the sum of the measured kernels of all layers, compared with the cost model's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pagedbench.simulation.cards import CARDS
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.simulation.modern_times import TIMES
from pagedbench.simulation.operator_times import ELEMENT_SIZE
from pagedbench.simulation.roofline import layer_matrices
from pagedbench.tools.calibrate.fitting import Errors, errors_of
from pagedbench.tools.calibrate.kernel_fit import EXPERTS, FOLDERS, expert_rows, read_table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from pagedbench.simulation.experts import Experts
    from pagedbench.simulation.shapes import ModelShape

    Vector = NDArray[np.float64]

MODELS = ("llama-2-13b", "llama-3.1-8b", "llama-3.1-70b", "mixtral-8x7b", "qwen3-30b-a3b")
RANKS = (1, 2, 4, 8)
BATCHES = (1, 4, 16, 64, 256)
LENGTHS = (128, 512, 2048, 8192)
"""Keys per sequence, as the tables have them."""


def decode_step_errors(folder: Path) -> dict[tuple[str, int], Errors]:
    """The errors of the committed times by card and number of ranks, over models, batches and lengths.

    A step is the matrix products, experts, attention and all-reduces of all layers, and the output
    projection. The tables have no elementwise kernels and no routers, so neither side has them.

    Raises:
        ConfigError: a table is missing.
    """
    found = {}
    for card, place in FOLDERS.items():
        tables = _Tables(folder / place)
        for ranks in RANKS:
            pairs = [
                pair for model in MODELS for pair in _steps(BUILT_IN_SHAPES[model], card, ranks, tables)
            ]
            predicted, measured = np.array(pairs).T
            found[card, ranks] = errors_of(predicted, measured)
    return found


def _steps(shape: ModelShape, card: str, ranks: int, tables: _Tables) -> Iterator[tuple[float, float]]:
    """Predicted and measured seconds of each batch and length whose attention the tables have."""
    times, limits = TIMES[card], CARDS[card]
    heads, kv_heads = shape.num_heads // ranks, max(shape.num_kv_heads // ranks, 1)
    experts = shape.experts
    ffn_size = None if experts is None else experts.shared_ffn_size
    products = [(*sizes, shape.num_layers) for sizes in layer_matrices(shape, ranks, ffn_size)]
    products.append((shape.hidden_size, shape.vocab_size / ranks, 1))
    for batch in BATCHES:
        rows = np.array([float(batch)])
        predicted = sum(
            count * float(times.gemm.seconds(rows, k, n, limits)[0]) for k, n, count in products
        )
        measured = sum(count * tables.product(batch, k, n) for k, n, count in products)
        if experts is not None:
            chosen = tables.experts(batch, shape.hidden_size, experts, ranks)
            if chosen is None:
                continue
            sizes = (shape.hidden_size, experts.ffn_size / ranks, experts.number, experts.per_token)
            predicted += shape.num_layers * float(times.experts.seconds(rows, *sizes, limits)[0])
            measured += shape.num_layers * chosen
        if ranks > 1:
            size = ELEMENT_SIZE * batch * shape.hidden_size
            calls = 2 * shape.num_layers
            predicted += calls * float(times.reduce_graph.seconds(np.array([float(size)]), ranks)[0])
            measured += calls * tables.all_reduce(size, ranks)
        for length in LENGTHS:
            attention = tables.attention(batch, length, heads, kv_heads)
            if attention is None:
                continue
            own = times.decode.seconds(batch, batch * length, heads, kv_heads, shape.head_dim, limits)
            yield predicted + shape.num_layers * own, measured + shape.num_layers * attention


class _Tables:
    """Measured seconds of one card's kernels, interpolated between measured sizes."""

    def __init__(self, folder: Path) -> None:
        gemm = read_table(folder, "gemm_perf")
        gemm = gemm[gemm.gemm_dtype == "bfloat16"]
        self._products = {
            batch: rows.pivot_table(index="k", columns="n", values="latency", aggfunc="median")
            for batch, rows in gemm.groupby("m")
        }
        decode = read_table(folder, "generation_attention_perf")
        decode = decode[decode.kv_cache_dtype == "bfloat16"]
        self._decode = {
            key: rows.sort_values("batch_size")
            for key, rows in decode.assign(length=decode.isl + decode.step).groupby(
                ["length", "num_heads", "num_key_value_heads"]
            )
        }
        self._experts = expert_rows(read_table(folder, "moe_perf")).set_index([*EXPERTS, "num_tokens"])
        reduce = read_table(folder, "custom_allreduce_perf")
        self._reduce = reduce[reduce.backend == "vllm_graph"].sort_values("message_size")

    def product(self, batch: int, inner: float, columns: float) -> float:
        """In proportion between measured sizes, and beyond the largest number of columns."""
        table = self._products[batch]
        widths, inners = (axis.to_numpy(dtype=np.float64) for axis in (table.columns, table.index))
        rows = np.array([_between(columns, widths, row) for row in table.to_numpy()])
        return 1e-3 * _between(inner, inners, rows)

    def attention(self, batch: int, length: int, heads: int, kv_heads: int) -> float | None:
        """More KV heads than were measured are more sequences with 8, 4, 2 or 1; None: not measured."""
        known = 2 ** min(int(np.log2(kv_heads)), 3)
        group, sequences = heads // kv_heads, batch * kv_heads / known
        rows = self._decode.get((length, known * group, known))
        if rows is None or not rows.batch_size.min() <= sequences <= rows.batch_size.max():
            return None
        return 1e-3 * float(np.interp(sequences, rows.batch_size, rows.latency))

    def experts(self, batch: int, hidden: int, experts: Experts, ranks: int) -> float | None:
        """None: not measured."""
        key = (hidden, experts.ffn_size, experts.number, experts.per_token, ranks, batch)
        return 1e-3 * float(self._experts.latency[key]) if key in self._experts.index else None

    def all_reduce(self, size: float, ranks: int) -> float:
        rows = self._reduce[self._reduce.num_gpus == ranks]
        return 1e-3 * float(np.interp(size, rows.message_size, rows.latency))


def _between(size: float, sizes: Vector, values: Vector) -> float:
    """Linear between sizes, in proportion beyond the largest; sizes without a measurement are left out."""
    known, found = sizes[~np.isnan(values)], values[~np.isnan(values)]
    return float(np.interp(size, known, found)) * max(size / float(known[-1]), 1.0)
