"""Which cases are measured on this machine: the ops by name, their sizes, and the memory that they need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.tools.kernels.attention_cases import decode_case, prefill_case
from pagedbench.tools.kernels.cases import Setup
from pagedbench.tools.kernels.copy_cases import copy_case
from pagedbench.tools.kernels.dense_cases import activation_case, argmax_case, linear_case, norm_case
from pagedbench.tools.kernels.options import POOL_OPS
from pagedbench.tools.kernels.swap_cases import swap_bytes, swap_case
from pagedbench.tools.kernels.write_cases import rotate_write_case, write_case, written_len

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pagedbench.tools.kernels.cases import Case
    from pagedbench.tools.kernels.options import KernelOptions

    Sizes = list[tuple[int, int]]

MAX_TOKENS = 16_384
"""The most tokens that a call computes, writes or copies: more would exceed any iteration."""

AS_COMPUTED = "auto"
"""The value of `--kv-dtype` for keys and values of the same dtype as everything else."""

FLOAT32_BYTES, FLOAT64_BYTES = 4, 8


@dataclass(frozen=True, slots=True)
class Operation:
    """How the cases of an op are built.

    Attributes:
        sizes: (batch, context) of its cases, from the batches and contexts asked for.
        num_bytes: the most memory that a case needs, including the reference's temporary tensors.
        is_bounded: does `MAX_TOKENS` apply?
    """

    build: Callable[[Setup, int, int], Case]
    sizes: Callable[[Sequence[int], Sequence[int]], Sizes]
    num_bytes: Callable[[Setup, int, int], int]
    is_bounded: bool = True


@dataclass(frozen=True, slots=True)
class Planned:
    """One case, not yet built."""

    op: str
    batch: int
    context: int
    kv_dtype: str = AS_COMPUTED

    def setup(self, setup: Setup) -> Setup:
        """The setup, with a pool of this case's kind."""
        from pagedbench.ops.device import dtype_of

        return replace(setup, kv_dtype=None if self.kv_dtype == AS_COMPUTED else dtype_of(self.kv_dtype))

    def build(self, setup: Setup) -> Case:
        return OPERATIONS[self.op].build(self.setup(setup), self.batch, self.context)

    def num_bytes(self, setup: Setup) -> int:
        """The most memory that it needs."""
        return OPERATIONS[self.op].num_bytes(self.setup(setup), self.batch, self.context)


def make_setup(options: KernelOptions) -> Setup:
    """What all cases have in common.

    Raises:
        ConfigError: the model, the device or the kernels are not available here.
    """
    from pagedbench.models.loader import load_shape
    from pagedbench.ops.device import default_dtype, dtype_of, find_device, find_kernels
    from pagedbench.ops.select import select_ops
    from pagedbench.runs.memory_bandwidth import rotation_bytes

    shape, device = load_shape(options.model), find_device(options.device)
    dtype = default_dtype(device) if options.dtype == "auto" else options.dtype
    wanted = options.kernels or ("auto", "reference")
    names = dict.fromkeys(find_kernels(device, name, dtype) for name in wanted)
    kernels = tuple(select_ops(device, name, dtype_of(dtype)) for name in names)
    return Setup(shape, dtype_of(dtype), device, kernels, options.block_sizes, rotation_bytes(device))


def plan_cases(
    ops: Sequence[str],
    batches: Sequence[int],
    contexts: Sequence[int],
    kv_dtypes: Sequence[str] = (AS_COMPUTED,),
) -> tuple[list[Planned], list[Planned]]:
    """The cases to measure, and those that are left out because one call would exceed any iteration.

    Raises:
        ConfigError: all are left out.
    """
    kept: list[Planned] = []
    left_out: list[Planned] = []
    for op in ops:
        operation = OPERATIONS[op]
        for batch, context in operation.sizes(batches, contexts):
            is_large = operation.is_bounded and batch * context > MAX_TOKENS
            kinds = kv_dtypes if op in POOL_OPS else (AS_COMPUTED,)
            (left_out if is_large else kept).extend(Planned(op, batch, context, kind) for kind in kinds)
    if not kept:
        raise ConfigError(
            f"every case has more than {MAX_TOKENS} tokens in one call: lower --batch or --context"
        )
    return kept, left_out


def check_memory(cases: Sequence[Planned], setup: Setup) -> None:
    """Refuse a case that does not fit the free memory.

    Raises:
        ConfigError: there is one.
    """
    from pagedbench.runs.numbers import gibibytes

    free = _free_memory(setup.device)
    for case in cases:
        needed = case.num_bytes(setup)
        if free is not None and needed > free:
            raise ConfigError(
                f"{case.op} at batch {case.batch}, context {case.context} takes up to {gibibytes(needed)}, "
                f"and {gibibytes(free)} are free: lower --batch, --context or --block-size, or choose --op"
            )


def _free_memory(device: str) -> int | None:
    """Free bytes; None: unknown."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    from pagedbench.runs.machine import available_memory

    return available_memory()


def _all_pairs(batches: Sequence[int], contexts: Sequence[int]) -> Sizes:
    return [(batch, context) for context in contexts for batch in batches]


def _tokens(batches: Sequence[int], contexts: Sequence[int]) -> Sizes:
    """One token per sequence of each batch, and one prompt of each length."""
    return list(dict.fromkeys([(batch, 1) for batch in batches] + [(1, context) for context in contexts]))


def _last_tokens(batches: Sequence[int], contexts: Sequence[int]) -> Sizes:
    return [(batch, 1) for batch in batches]


def _pool_bytes(setup: Setup, batch: int, context: int) -> int:
    """Bytes of the pools, as much again, and the gathered, widened and repeated tensors of one call."""
    padded = max(-(-context // size) * size for size in (1, *setup.block_sizes))
    pool = batch * padded * setup.kv_row_bytes
    widened = pool // setup.cache_dtype.itemsize * FLOAT32_BYTES
    repeats = setup.shape.num_heads // setup.shape.num_kv_heads
    return 2 * setup.num_sets(batch * context * setup.kv_row_bytes) * pool + 2 * (1 + repeats) * widened


def _written_bytes(setup: Setup, batch: int, context: int) -> int:
    return _pool_bytes(setup, batch, written_len(setup, context))


def _norm_bytes(setup: Setup, batch: int, context: int) -> int:
    return 2 * setup.footprint + 8 * batch * context * setup.shape.hidden_size * FLOAT64_BYTES


def _product_bytes(setup: Setup, batch: int, context: int, *, is_head: bool = False) -> int:
    """Bytes of the weights, of their packed copies for each kernels, and of the check in float64."""
    out_features = setup.shape.vocab_size if is_head else 2 * setup.shape.ffn_size
    weight = out_features * setup.shape.hidden_size
    copies = 1 + (1 if is_head else 2) * len(setup.kernels)
    kept = setup.num_sets(weight * setup.dtype.itemsize) * weight * setup.dtype.itemsize * copies
    return kept + FLOAT64_BYTES * (weight + 4 * batch * context * out_features)


OPERATIONS = {
    "decode": Operation(decode_case, _all_pairs, _pool_bytes, is_bounded=False),
    "prefill": Operation(prefill_case, _all_pairs, _pool_bytes),
    "write": Operation(write_case, _tokens, _written_bytes),
    "rotate_write": Operation(rotate_write_case, _tokens, _written_bytes),
    "copy": Operation(copy_case, _all_pairs, _pool_bytes),
    "swap": Operation(swap_case, _all_pairs, swap_bytes),
    "norm": Operation(norm_case, _tokens, _norm_bytes),
    "linear": Operation(linear_case, _tokens, _product_bytes),
    "activation": Operation(activation_case, _tokens, _product_bytes),
    "argmax": Operation(argmax_case, _last_tokens, partial(_product_bytes, is_head=True)),
}
"""The ops by name, in the order in which they are measured."""
