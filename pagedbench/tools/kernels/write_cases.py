"""Writing new tokens to the pool, with and without rotary embedding: in one op, and in two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.ops import reference
from pagedbench.tools.kernels.cases import TORCH, Accuracy, Case, Variant, Work, accuracy, equality
from pagedbench.tools.kernels.kv_pools import KVPools

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from pagedbench.ops.interface import Ops
    from pagedbench.tools.kernels.cases import Setup
    from pagedbench.tools.kernels.kv_pools import Placed


def write_case(setup: Setup, batch: int, context: int) -> Case:
    """The keys and values of `context` new tokens of `batch` sequences."""
    tokens = _NewTokens(setup, batch * context)
    placements = _write_places(setup, batch, context)
    variants = []
    for placed in placements:
        for ops in setup.kernels:
            run = _write(ops.write_kv, tokens, placed)
            check = _check_write(run, tokens, placed)
            variants.append(Variant(ops.name, placed.form, run, check, placed.block_size))
    run = _write(_index_copy, tokens, placements[0])
    variants.append(Variant(TORCH, "contiguous", run, _check_write(run, tokens, placements[0])))
    work = Work(batch * context * setup.kv_row_bytes)
    num_sets = placements[0].num_sets
    return Case("write", batch, context, setup.heads, work, num_sets, tuple(variants))


def rotate_write_case(setup: Setup, batch: int, context: int) -> Case:
    """As `write_case`, with queries and keys turned by their positions: in one op, and in two."""
    tokens = _NewTokens(setup, batch * context)
    placements = _write_places(setup, batch, context)[1:]
    variants = []
    for placed in placements:
        runs = []
        for ops in setup.kernels:
            runs.append((ops.name, "fused", _rotate_write(ops, tokens, placed)))
            runs.append((ops.name, "separate", _rotate_then(_write(ops.write_kv, tokens, placed), tokens)))
        runs.append((TORCH, "separate", _rotate_then(_write(_index_copy, tokens, placed), tokens)))
        variants += [
            Variant(name, form, run, _check_rotation(run, tokens, placed), placed.block_size)
            for name, form, run in runs
        ]
    turned = (setup.shape.num_heads + setup.shape.num_kv_heads) * setup.shape.head_dim
    work = Work(batch * context * setup.kv_row_bytes, 3 * batch * context * turned)
    num_sets = placements[0].num_sets
    return Case("rotate_write", batch, context, setup.heads, work, num_sets, tuple(variants))


class _NewTokens:
    """Queries, keys and values as a model has them: parts of one projection, so strided by its width."""

    def __init__(self, setup: Setup, num_tokens: int) -> None:
        import torch

        shape = setup.shape
        first, last = shape.num_heads, shape.num_heads + shape.num_kv_heads
        projection = setup.random(num_tokens, last + shape.num_kv_heads, shape.head_dim)
        self.query, self.key, self.value = projection.tensor_split((first, last), dim=1)
        angles = torch.rand(num_tokens, shape.head_dim // 2, device=setup.device) * 6
        self.cosine, self.sine = angles.cos(), angles.sin()  # [num_tokens, head_dim / 2]


class _Targets:
    """Where calls in rotation write: in every pool, one step of `context` tokens after another.

    Sequences are at least a block long, so that one token a sequence, call after call, fills blocks as
    decoding does.
    """

    def __init__(self, pools: KVPools, placed: Placed, context: int) -> None:
        self.form = placed.form
        self.block_size = placed.block_size
        self._pools = pools
        self._slots = [
            placed.slots[:, start : start + context].flatten().contiguous()  # [batch * context]
            for start in range(0, pools.context - context + 1, context)
        ]

    @property
    def num_sets(self) -> int:
        return self._pools.num_pools * len(self._slots)

    def of(self, call: int) -> tuple[Tensor, Tensor, Tensor]:
        """Key cache, value cache and slots."""
        step, pool = divmod(call, self._pools.num_pools)
        return self._pools.keys[pool], self._pools.values[pool], self._slots[step]

    def emptied(self, call: int) -> list[Tensor]:
        """The two caches, with zeros where the call is to write."""
        *caches, slots = self.of(call)
        for cache in caches:
            cache.index_fill_(0, slots, 0.0)
        return caches


def _write_places(setup: Setup, batch: int, context: int) -> list[_Targets]:
    """Extents, then blocks of every size."""
    pools = KVPools(setup, batch, written_len(setup, context))
    return [_Targets(pools, placed, context) for placed in pools.placements]


def written_len(setup: Setup, context: int) -> int:
    """Tokens of a sequence that is written `context` at a time."""
    return max(max(setup.block_sizes) // context, 1) * context


def _write(
    write: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None], tokens: _NewTokens, targets: _Targets
) -> Callable[[int], object]:
    return lambda call: write(tokens.key, tokens.value, *targets.of(call))


def _index_copy(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
    key_cache.index_copy_(0, slots, key)
    value_cache.index_copy_(0, slots, value)


def _rotate_write(ops: Ops, tokens: _NewTokens, targets: _Targets) -> Callable[[int], object]:
    new = (tokens.query, tokens.key, tokens.value)
    return lambda call: ops.rotate_and_write_kv(*new, *targets.of(call), tokens.cosine, tokens.sine)


def _rotate_then(write: Callable[[int], object], tokens: _NewTokens) -> Callable[[int], object]:
    """Turn in plain PyTorch, and write in another op."""

    def run(pool: int) -> None:
        for side in (tokens.query, tokens.key):
            side.copy_(_turned(side, tokens))
        write(pool)

    return run


def _turned(side: Tensor, tokens: _NewTokens) -> Tensor:
    """In float32."""
    import torch

    first, second = side.float().chunk(2, dim=-1)
    cosine, sine = tokens.cosine[:, None], tokens.sine[:, None]  # [num_tokens, 1, head_dim / 2]
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def _check_write(
    run: Callable[[int], object], tokens: _NewTokens, targets: _Targets
) -> Callable[[], Accuracy]:
    """Every slot of a pool holds what the definition leaves there, bit for bit."""

    def check() -> Accuracy:
        last = targets.num_sets - 1
        caches = targets.emptied(last)
        expected = [cache.clone() for cache in caches]
        reference.write_kv(tokens.key, tokens.value, expected[0], expected[1], targets.of(last)[2])
        run(last)
        return equality(caches, expected)

    return check


def _check_rotation(
    run: Callable[[int], object], tokens: _NewTokens, targets: _Targets
) -> Callable[[], Accuracy]:
    """Queries and keys are turned, and what stands in the keys afterwards is also in the pool."""

    def check() -> Accuracy:
        import torch

        from pagedbench.ops.accuracy import bounded_rotation

        last = targets.num_sets - 1
        caches = targets.emptied(last)
        expected = [cache.clone() for cache in caches]
        sides = (tokens.query, tokens.key)
        turned = bounded_rotation(torch.cat(sides, dim=1), tokens.cosine, tokens.sine)
        run(last)
        reference.write_kv(tokens.key, tokens.value, expected[0], expected[1], targets.of(last)[2])
        written = equality(caches, expected)
        return accuracy(torch.cat(sides, dim=1), turned) if written.is_met else written

    return check
