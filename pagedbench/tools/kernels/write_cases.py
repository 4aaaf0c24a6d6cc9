"""Writes of new tokens to the pool, with and without rotary embedding: in one op, or in two."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pagedbench.ops import reference
from pagedbench.tools.kernels.cases import TORCH, Accuracy, Case, Form, Variant, Work, accuracy, equality
from pagedbench.tools.kernels.kv_pools import KVPools

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from pagedbench.ops.interface import Ops
    from pagedbench.tools.kernels.cases import Run, Setup
    from pagedbench.tools.kernels.kv_pools import Placement

    Write = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]
    """Writes keys and values into a key cache and a value cache, at slots."""


def write_case(setup: Setup, batch: int, context: int) -> Case:
    """Writes the keys and values of `context` new tokens of `batch` sequences."""
    tokens, targets = _NewTokens(setup, batch * context), _targets(setup, batch, context)
    variants = [
        Variant(ops.name, item.form, tokens.write(ops.write_kv, item), size)
        for size, item in targets.items()
        for ops in setup.kernels
    ]
    variants.append(Variant(TORCH, Form.CONTIGUOUS, tokens.write(_index_copy(setup), targets[None])))
    work = Work(batch * context * setup.kv_row_bytes)
    num_sets = targets[None].num_sets
    check = partial(tokens.check, targets=targets)
    return Case("write", batch, context, setup.heads, work, num_sets, variants, check)


def rotate_write_case(setup: Setup, batch: int, context: int) -> Case:
    """Like `write_case`, with queries and keys rotated by their positions: in one op, or in two."""
    tokens, targets = _NewTokens(setup, batch * context), _targets(setup, batch, context)
    variants = []
    for size in setup.block_sizes:
        for ops in setup.kernels:
            fused = tokens.rotate_and_write(ops, targets[size])
            separate = tokens.rotate_then_write(ops.write_kv, targets[size])
            variants.append(Variant(ops.name, Form.FUSED, fused, size))
            variants.append(Variant(ops.name, Form.SEPARATE, separate, size))
        plain = tokens.rotate_then_write(_index_copy(setup), targets[size])
        variants.append(Variant(TORCH, Form.SEPARATE, plain, size))

    def check(variant: Variant) -> Accuracy:
        from pagedbench.ops.accuracy import bounded_rotation

        rotated = bounded_rotation(tokens.query_and_key, tokens.cosine, tokens.sine)
        written = tokens.check(variant, targets)
        return accuracy(tokens.query_and_key, rotated) if written.is_met else written

    width = (setup.shape.num_heads + setup.shape.num_kv_heads) * setup.shape.head_dim
    work = Work(batch * context * setup.kv_row_bytes, 3 * batch * context * width)
    num_sets = targets[None].num_sets
    return Case("rotate_write", batch, context, setup.heads, work, num_sets, variants, check)


def written_len(setup: Setup, context: int) -> int:
    """Tokens of a sequence that is written `context` at a time.

    At least one block, so that calls with one token per sequence fill blocks as decoding does.
    """
    return max(max(setup.block_sizes) // context, 1) * context


class _Targets:
    """Where calls write in turn: in every pool, one step of `context` tokens after another."""

    def __init__(self, pools: KVPools, placement: Placement, context: int) -> None:
        self.form = placement.form
        self._pools = pools
        self._slots = [
            placement.slots[:, start : start + context].flatten().contiguous()  # [batch * context]
            for start in range(0, pools.context - context + 1, context)
        ]

    @property
    def num_sets(self) -> int:
        return self._pools.num_pools * len(self._slots)

    def of(self, call: int) -> tuple[Tensor, Tensor, Tensor]:
        """Key cache, value cache and slots."""
        step, pool = divmod(call, self._pools.num_pools)
        return self._pools.keys[pool], self._pools.values[pool], self._slots[step]


def _targets(setup: Setup, batch: int, context: int) -> dict[int | None, _Targets]:
    """Placements by block size; None for extents."""
    pools = KVPools(setup, batch, written_len(setup, context))
    return {placed.block_size: _Targets(pools, placed, context) for placed in pools.placements}


class _NewTokens:
    """Queries, keys and values as in a model: parts of one projection, strided by its width."""

    def __init__(self, setup: Setup, num_tokens: int) -> None:
        import torch

        shape = setup.shape
        first, last = shape.num_heads, shape.num_heads + shape.num_kv_heads
        projection = setup.random(num_tokens, last + shape.num_kv_heads, shape.head_dim)
        self._query, self._key, self._value = projection.tensor_split((first, last), dim=1)
        angles = torch.rand(num_tokens, shape.head_dim // 2, device=setup.device) * 6
        self.cosine, self.sine = angles.cos(), angles.sin()  # [num_tokens, head_dim / 2]

    def write(self, write: Write, targets: _Targets) -> Run:
        return lambda call: write(self._key, self._value, *targets.of(call))

    def rotate_and_write(self, ops: Ops, targets: _Targets) -> Run:
        new, angles = (self._query, self._key, self._value), (self.cosine, self.sine)
        return lambda call: ops.rotate_and_write_kv(*new, *targets.of(call), *angles)

    def rotate_then_write(self, write: Write, targets: _Targets) -> Run:
        """Rotate in plain PyTorch, then write in another op."""

        def run(call: int) -> None:
            for side in (self._query, self._key):
                side.copy_(self._rotated(side))
            write(self._key, self._value, *targets.of(call))

        return run

    def check(self, variant: Variant, targets: dict[int | None, _Targets]) -> Accuracy:
        """Compare every slot with the definition, bit for bit."""
        target = targets[variant.block_size]
        *caches, slots = target.of(target.num_sets - 1)
        for cache in caches:
            cache.index_fill_(0, slots, 0)
        expected = [cache.clone() for cache in caches]
        variant.run(target.num_sets - 1)
        reference.write_kv(self._key, self._value, expected[0], expected[1], slots)
        return equality(caches, expected)

    @property
    def query_and_key(self) -> Tensor:
        import torch

        return torch.cat((self._query, self._key), dim=1)

    def _rotated(self, side: Tensor) -> Tensor:
        """The definition of the rotation, in float32."""
        import torch

        first, second = side.float().chunk(2, dim=-1)
        cosine, sine = self.cosine[:, None], self.sine[:, None]  # [num_tokens, 1, head_dim / 2]
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def _index_copy(setup: Setup) -> Write:
    def write(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
        key_cache.index_copy_(0, slots, setup.stored(key))
        value_cache.index_copy_(0, slots, setup.stored(value))

    return write
