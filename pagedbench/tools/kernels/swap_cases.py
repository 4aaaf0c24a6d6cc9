"""Swaps of sequences to the host: block by block, as in the paper, or all moves of a step at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.execution.kv_cache import KVCache
from pagedbench.execution.step_inputs import MoveInputs
from pagedbench.memory.moves import Pool
from pagedbench.tools.kernels.cases import TORCH, Accuracy, Case, Form, Variant, Work, equality

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.interface import Ops
    from pagedbench.tools.kernels.cases import Run, Setup


def swap_case(setup: Setup, batch: int, context: int) -> Case:
    """Moves `batch` sequences of `context` tokens out of the device's pool, in every layer of the model.

    Their blocks are shuffled on both sides, so that no two are adjacent.
    """
    num_sets = swap_sets(setup, batch, context)
    cache = KVCache(
        setup.shape, num_sets * _num_slots(setup, batch, context), setup.cache_dtype, setup.device
    )
    cache.reserve_host(cache.num_slots)
    setup.fill(cache.tensors)
    runs = {size: [_runs(cache, size, batch * context, number, num_sets) for number in range(num_sets)]
            for size in setup.block_sizes}  # fmt: skip
    variants = []
    for size in setup.block_sizes:
        variants += [
            Variant(ops.name, Form.GATHERED, _gathered(cache, ops, runs[size]), size)
            for ops in setup.kernels
        ]
        variants.append(Variant(TORCH, Form.BY_BLOCK, _by_block(cache, runs[size]), size))

    def check(variant: Variant) -> Accuracy:
        import torch

        assert variant.block_size is not None
        moved = runs[variant.block_size][-1]
        host = cache.pool(Pool.HOST).unbind()
        for tensor in host:
            tensor.fill_(1.0)
        expected = [tensor.clone() for tensor in host]
        source, target = (_slots(moved, column) for column in (0, 1))
        for tensor, device in zip(expected, cache.tensors, strict=True):
            tensor[target] = device[source.to(device.device)].cpu()
        variant.run(num_sets - 1)
        if setup.device == "cuda":
            torch.cuda.synchronize()
        return equality(host, expected)

    work = Work(2 * batch * context * setup.kv_row_bytes * setup.shape.num_layers)
    return Case("swap", batch, context, setup.heads, work, num_sets, variants, check)


def swap_sets(setup: Setup, batch: int, context: int) -> int:
    """The number of copies of the sequences, so that no call finds in a cache what another has read."""
    return setup.num_sets(batch * context * setup.kv_row_bytes * setup.shape.num_layers)


def swap_bytes(setup: Setup, batch: int, context: int) -> int:
    """The most memory that a case needs: both pools, and a copy of the host's for the check."""
    slot = setup.kv_row_bytes * setup.shape.num_layers
    return 4 * swap_sets(setup, batch, context) * _num_slots(setup, batch, context) * slot


def _num_slots(setup: Setup, batch: int, context: int) -> int:
    """Slots of a set: the tokens, in whole blocks of every size."""
    return max(-(-batch * context // size) * size for size in setup.block_sizes)


def _runs(cache: KVCache, size: int, num_tokens: int, number: int, num_sets: int) -> Tensor:
    """The moves of one set: its tokens fill blocks of `size`, the last one perhaps in part.

    # int64 [num_blocks, 3]: source slot, destination slot, number of slots
    """
    import torch

    num_blocks, generator = -(-num_tokens // size), torch.Generator().manual_seed(0)
    source, target = (torch.randperm(cache.num_slots // size, generator=generator) for _ in range(2))
    chosen = slice(number * num_blocks, (number + 1) * num_blocks)
    lens = torch.full((num_blocks,), size)
    lens[-1] = num_tokens - (num_blocks - 1) * size
    return torch.stack([source[chosen] * size, target[chosen] * size, lens], dim=1)


def _slots(runs: Tensor, column: int) -> Tensor:
    """Every slot of the runs' sources (column 0) or destinations (1)."""
    import torch

    return torch.cat([torch.arange(row[column], row[column] + row[2]) for row in runs.tolist()])


def _gathered(cache: KVCache, ops: Ops, runs: list[Tensor]) -> Run:
    """Execute the moves as the engine does in an iteration."""
    moves = [MoveInputs(Pool.DEVICE, Pool.HOST, item.numpy()) for item in runs]

    def run(number: int) -> None:
        cache.move(moves[number], ops)
        cache.join_swaps()

    return run


def _by_block(cache: KVCache, runs: list[Tensor]) -> Run:
    """One transfer per block, layer, and keys or values (paper, section 7.3)."""
    moves = [item.tolist() for item in runs]

    def run(number: int) -> None:
        for device, host in zip(cache.tensors, cache.pool(Pool.HOST).unbind(), strict=True):
            for source, target, length in moves[number]:
                host[target : target + length].copy_(device[source : source + length], non_blocking=True)

    return run
