"""From the options of `kernels` to what is measured on this machine: shape, dtype, kernels, cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from pagedbench.tools.kernels.cases import Setup
    from pagedbench.tools.kernels.options import KernelOptions
    from pagedbench.tools.kernels.plan import Planned


def make_setup(options: KernelOptions) -> Setup:
    """What all cases have in common.

    Raises:
        ConfigError: the model, the device or kernels asked for cannot be had here.
    """
    from pagedbench.models.loader import load_shape
    from pagedbench.ops.device import default_dtype, dtype_of, find_device, find_kernels
    from pagedbench.ops.select import select_ops
    from pagedbench.runs.memory_bandwidth import rotation_bytes
    from pagedbench.tools.kernels.cases import Setup

    shape = load_shape(options.model)
    device = find_device(options.device)
    dtype = default_dtype(device) if options.dtype == "auto" else options.dtype
    wanted = options.kernels or ("auto", "reference")
    names = dict.fromkeys(find_kernels(device, name, dtype) for name in wanted)
    return Setup(
        shape=shape,
        dtype=dtype_of(dtype),
        device=device,
        kernels=tuple(select_ops(device, name, dtype_of(dtype)) for name in names),
        block_sizes=options.block_sizes,
        footprint=rotation_bytes(device),
    )


def planned_cases(options: KernelOptions, setup: Setup) -> tuple[list[Planned], list[Planned]]:
    """The cases, and those left out because a call would be too large.

    Raises:
        ConfigError: nothing is left, or a case does not fit the memory that is free.
    """
    from pagedbench.runs.numbers import gibibytes
    from pagedbench.tools.kernels.plan import MAX_TOKENS, plan_cases

    cases, left_out = plan_cases(options.ops, options.batches, options.contexts)
    if not cases:
        raise ConfigError(
            f"every case has more than {MAX_TOKENS} tokens in one call: lower --batch or --context"
        )
    free = _free_memory(setup.device)
    for case in cases:
        needed = case.num_bytes(setup)
        if free is not None and needed > free:
            raise ConfigError(
                f"{case.op} at batch {case.batch}, context {case.context} takes up to {gibibytes(needed)}, "
                f"and {gibibytes(free)} are free: lower --batch, --context or --block-size, or choose --op"
            )
    return cases, left_out


def _free_memory(device: str) -> int | None:
    """Bytes; None where the system does not say."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    from pagedbench.runs.machine import available_memory

    return available_memory()
