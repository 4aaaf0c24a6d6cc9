"""Attention over the pool, paged and contiguous, and PyTorch's own over tensors gathered beforehand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pagedbench.tools.kernels.cases import TORCH, Accuracy, Case, Form, Variant, Work, accuracy
from pagedbench.tools.kernels.kv_pools import KVPools

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from pagedbench.ops.interface import Ops
    from pagedbench.tools.kernels.cases import Run, Setup
    from pagedbench.tools.kernels.kv_pools import Placement

CHECKED_ROWS = 16
"""Rows of a prompt that are checked at its beginning, in its middle and at its end."""

INT32_BYTES = 4


def decode_case(setup: Setup, batch: int, context: int) -> Case:
    """One new token per sequence over `context` cached ones."""
    moved = batch * (context * setup.kv_row_bytes + 2 * setup.query_row_bytes + INT32_BYTES)
    return _Attention(setup, batch, context, num_rows=1).case("decode", moved, batch * context)


def prefill_case(setup: Setup, batch: int, context: int) -> Case:
    """All tokens of `batch` prompts, causal; their keys and values are in the cache."""
    moved = batch * context * (setup.kv_row_bytes + 2 * setup.query_row_bytes)
    pairs = batch * context * (context + 1) // 2
    return _Attention(setup, batch, context, num_rows=context).case("prefill", moved, pairs)


class _Attention:
    """One case: the last `num_rows` positions of every sequence are queries."""

    def __init__(self, setup: Setup, batch: int, context: int, num_rows: int) -> None:
        import torch

        shape = setup.shape
        self._pools = KVPools(setup, batch, context)
        self._num_rows = num_rows
        self._query = setup.random(batch * num_rows, shape.num_heads, shape.head_dim)
        self._scale = float(shape.head_dim) ** -0.5
        self._lens = torch.full((batch,), context, dtype=torch.int32, device=setup.device)
        starts = torch.arange(batch + 1, dtype=torch.int32) * num_rows
        self._query_starts = starts.to(setup.device)  # [batch + 1]

    def case(self, op: str, num_bytes: int, num_pairs: int) -> Case:
        """`num_pairs`: pairs of a query and a key that it attends to."""
        pools, setup = self._pools, self._pools.setup
        variants = [
            Variant(ops.name, placement.form, self._by(ops, placement), placement.block_size)
            for ops in setup.kernels
            for placement in pools.placements
        ]
        if setup.kv_dtype is None:  # PyTorch has no attention over 8 bits
            variants.append(Variant(TORCH, Form.DENSE, self._dense()))
        work = Work(num_bytes, 4 * setup.shape.num_heads * setup.shape.head_dim * num_pairs)
        size = (pools.batch, pools.context, setup.heads)
        return Case(op, *size, work, pools.num_pools, variants, self._check)

    def _by(self, ops: Ops, placement: Placement) -> Run:
        keys, values, lens = self._pools.keys, self._pools.values, self._lens
        query, starts, addresses, scale = self._query, self._query_starts, placement.addresses, self._scale
        if self._num_rows == 1:
            return lambda pool: ops.attend_decode(query, keys[pool], values[pool], addresses, lens, scale)
        return lambda pool: ops.attend_prefill(
            query, keys[pool], values[pool], addresses, starts, lens, scale
        )

    def _dense(self) -> Run:
        """PyTorch's attention over [batch, heads, length, head_dim]; the gathering is not timed."""
        import torch.nn.functional as F

        pools, scale, is_causal = self._pools, self._scale, self._num_rows > 1
        slots = pools.placement(None).slots
        dense = [
            tuple(side.transpose(1, 2).contiguous() for side in pools.gathered(pool, slots))
            for pool in range(pools.num_pools)
        ]
        query = self._query.view(pools.batch, self._num_rows, *self._query.shape[1:])
        query = query.transpose(1, 2).contiguous()
        is_grouped = pools.setup.shape.num_heads > pools.setup.shape.num_kv_heads

        def run(pool: int) -> Tensor:
            key, value = dense[pool]
            out = F.scaled_dot_product_attention(
                query, key, value, is_causal=is_causal, scale=scale, enable_gqa=is_grouped
            )
            return out.transpose(1, 2).flatten(0, 1)  # [batch * num_rows, num_heads, head_dim]

        return run

    def _check(self, variant: Variant) -> Accuracy:
        """Compare the outputs on the first and the last pool, by windows of rows."""
        from pagedbench.ops.accuracy import bounded_attention

        pools, num_rows = self._pools, self._num_rows
        slots = pools.placement(variant.block_size).slots
        found = []
        for pool in sorted({0, pools.num_pools - 1}):
            out = variant.run(pool)
            assert out.shape == self._query.shape
            if not bool(out.isfinite().all()):
                return Accuracy(math.nan, math.nan)
            for sequence in pools.sample():
                key, value = pools.gathered(pool, slots[sequence])
                for start, stop in self._windows():
                    rows = slice(sequence * num_rows + start, sequence * num_rows + stop)
                    seen = pools.context - num_rows + stop
                    expected = bounded_attention(self._query[rows], key[:seen], value[:seen], self._scale)
                    found.append(accuracy(out[rows], expected))
        return Accuracy(max(item.max_error for item in found), max(item.share for item in found))

    def _windows(self) -> Iterable[tuple[int, int]]:
        """The rows of a sequence to compare, as ranges."""
        num_rows = self._num_rows
        starts = (0, num_rows // 2, num_rows - CHECKED_ROWS)
        return sorted({(max(start, 0), min(max(start, 0) + CHECKED_ROWS, num_rows)) for start in starts})
