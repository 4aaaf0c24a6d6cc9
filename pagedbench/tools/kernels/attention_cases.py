"""Attention over the pool, paged and contiguous, against PyTorch's own over tensors gathered beforehand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pagedbench.tools.kernels.cases import TORCH, Accuracy, Case, Variant, Work, accuracy
from pagedbench.tools.kernels.kv_pools import KVPools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from pagedbench.ops.interface import Ops
    from pagedbench.tools.kernels.cases import Setup
    from pagedbench.tools.kernels.kv_pools import Placed

CHECKED_ROWS = 16
"""Rows of a prompt that are compared at its beginning, in its middle and at its end."""

INT32_BYTES = 4


def decode_case(setup: Setup, batch: int, context: int) -> Case:
    """One new token a sequence over `context` cached ones."""
    pools = KVPools(setup, batch, context)
    query = setup.random(batch, setup.shape.num_heads, setup.shape.head_dim)
    attention = _Attention(pools, query, rows_per_sequence=1)
    moved = batch * (context * setup.kv_row_bytes + 2 * setup.query_row_bytes + INT32_BYTES)
    flops = 4 * batch * setup.shape.num_heads * setup.shape.head_dim * context
    return attention.case("decode", Work(moved, flops))


def prefill_case(setup: Setup, batch: int, context: int) -> Case:
    """All tokens of `batch` prompts, causal; their keys and values are in the cache."""
    pools = KVPools(setup, batch, context)
    query = setup.random(batch * context, setup.shape.num_heads, setup.shape.head_dim)
    attention = _Attention(pools, query, rows_per_sequence=context)
    moved = batch * context * (setup.kv_row_bytes + 2 * setup.query_row_bytes)
    pairs = batch * context * (context + 1) // 2
    return attention.case("prefill", Work(moved, 4 * setup.shape.num_heads * setup.shape.head_dim * pairs))


class _Attention:
    """The variants of one case: the last `rows_per_sequence` positions of every sequence are queries."""

    def __init__(self, pools: KVPools, query: Tensor, rows_per_sequence: int) -> None:
        import torch

        self._pools = pools
        self._query = query  # [batch * rows_per_sequence, num_heads, head_dim]
        self._num_rows = rows_per_sequence
        self._scale = float(query.shape[-1]) ** -0.5
        starts = torch.arange(pools.batch + 1, dtype=torch.int32) * rows_per_sequence
        self._query_starts = starts.to(query.device)  # [batch + 1]

    def case(self, op: str, work: Work) -> Case:
        pools = self._pools
        placements = pools.placements
        variants = [
            Variant(ops.name, placed.form, run, self._check_of(run, placed), placed.block_size)
            for ops in pools.setup.kernels
            for placed in placements
            for run in [self._run_of(ops, placed)]
        ]
        dense = self._dense_run(placements[0])
        variants.append(Variant(TORCH, "dense", dense, self._check_of(dense, placements[0])))
        return Case(
            op, pools.batch, pools.context, pools.setup.heads, work, pools.num_pools, tuple(variants)
        )

    def _run_of(self, ops: Ops, placed: Placed) -> Callable[[int], Tensor]:
        keys, values, lens = self._pools.keys, self._pools.values, self._pools.context_lens
        query, starts, addresses, scale = self._query, self._query_starts, placed.addresses, self._scale
        is_decode = self._num_rows == 1

        def run(pool: int) -> Tensor:
            if is_decode:
                return ops.attend_decode(query, keys[pool], values[pool], addresses, lens, scale)
            return ops.attend_prefill(query, keys[pool], values[pool], addresses, starts, lens, scale)

        return run

    def _dense_run(self, placed: Placed) -> Callable[[int], Tensor]:
        """PyTorch's attention over [batch, heads, length, head_dim]; the gathering is not timed."""
        import torch.nn.functional as F

        pools, scale = self._pools, self._scale
        dense = [
            tuple(side.transpose(1, 2).contiguous() for side in pools.gathered(pool, placed.slots))
            for pool in range(pools.num_pools)
        ]
        query = (
            self._query.view(pools.batch, self._num_rows, *self._query.shape[1:])
            .transpose(1, 2)
            .contiguous()
        )
        is_grouped = pools.setup.shape.num_heads > pools.setup.shape.num_kv_heads
        is_causal = self._num_rows > 1

        def run(pool: int) -> Tensor:
            key, value = dense[pool]
            out = F.scaled_dot_product_attention(
                query, key, value, is_causal=is_causal, scale=scale, enable_gqa=is_grouped
            )
            return out.transpose(1, 2).flatten(0, 1)  # [batch * rows_per_sequence, num_heads, head_dim]

        return run

    def _check_of(self, run: Callable[[int], Tensor], placed: Placed) -> Callable[[], Accuracy]:
        def check() -> Accuracy:
            last = self._pools.num_pools - 1
            found = [self._compare(run(pool), placed, pool) for pool in sorted({0, last})]
            return max(found, key=lambda item: (not item.is_met, item.max_error))

        return check

    def _compare(self, out: Tensor, placed: Placed, pool: int) -> Accuracy:
        """With the definition, in windows of rows."""
        from pagedbench.ops.accuracy import bounded_attention

        assert out.shape == self._query.shape
        found = []
        for sequence in self._pools.sample():
            key, value = self._pools.gathered(pool, placed.slots[sequence])
            for start, stop in self._windows():
                rows = slice(sequence * self._num_rows + start, sequence * self._num_rows + stop)
                seen = self._pools.context - self._num_rows + stop
                expected = bounded_attention(self._query[rows], key[:seen], value[:seen], self._scale)
                found.append(accuracy(out[rows], expected))
        if not bool(out.isfinite().all()):
            return Accuracy(math.nan, math.nan)
        return Accuracy(max(item.max_error for item in found), max(item.share for item in found))

    def _windows(self) -> Iterable[tuple[int, int]]:
        """Rows of a sequence to compare."""
        num_rows = self._num_rows
        starts = (0, num_rows // 2, num_rows - CHECKED_ROWS)
        return sorted({(max(start, 0), min(max(start, 0) + CHECKED_ROWS, num_rows)) for start in starts})
