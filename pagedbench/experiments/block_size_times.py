"""Decode attention of this machine's kernels over the block size, for a profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.execution.costs.block_sizes import BlockSizeTimes
from pagedbench.execution.costs.profile import KERNELS
from pagedbench.experiments.kernel_bench import KernelBench
from pagedbench.experiments.kernel_cases import Setup
from pagedbench.experiments.kernel_plan import Planned
from pagedbench.experiments.machine_limits import NoProbe, rotation_bytes
from pagedbench.experiments.stopwatch import stopwatch_of

if TYPE_CHECKING:
    from pagedbench.backend import ModelBackend
    from pagedbench.plan import Plan

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CASE = Planned("decode", batch=16, context=512)
ROUNDS, SAMPLE_TIME = 9, 0.0005


def measure_block_sizes(plan: Plan, backend: ModelBackend) -> BlockSizeTimes:
    """As `pagedbench kernels --op decode` measures it, with the model's heads.

    Raises:
        WrongOutput: an output is not the reference's.
    """
    from pagedbench.ops.device import dtype_of

    device = plan.config.device
    setup = Setup(
        shape=plan.shape,
        dtype=dtype_of(plan.config.dtype),
        device=device,
        kernels=(backend.ops,),
        block_sizes=tuple(sorted({*SIZES, plan.config.block_size})),
        footprint=rotation_bytes(device),
    )
    bench = KernelBench(setup, NoProbe(), stopwatch_of(device), rounds=ROUNDS, sample_time=SAMPLE_TIME)
    factors = {row.block_size: row.over_contiguous for row in bench.measure(CASE)}
    return BlockSizeTimes(
        {size: factor for size, factor in factors.items() if size is not None and factor is not None},
        KERNELS,
    )
