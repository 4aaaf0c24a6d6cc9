"""Copies slots between caches, for all layers in one launch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor

MAX_CHUNK = 1024
"""Elements of a slot that one program copies."""


@triton.jit(do_not_specialize_on_alignment=["source_slots", "destination_slots"])
def _copy_kernel(
    sources: tl.tensor,  # the first cache, [num_slots, row_size]; the others `source_step` elements apart
    destinations: tl.tensor,
    source_slots: tl.tensor,  # int64 [num_copies]
    destination_slots: tl.tensor,
    source_step: tl.tensor,
    destination_step: tl.tensor,
    source_stride: tl.tensor,
    destination_stride: tl.tensor,
    row_size: tl.constexpr,
    chunk: tl.constexpr,
) -> None:
    """A program is a chunk of one slot in one cache."""
    copy, cache = tl.program_id(0), tl.program_id(1).to(tl.int64)
    lanes = tl.program_id(2) * chunk + tl.arange(0, chunk)
    is_copied = lanes < row_size
    source = sources + cache * source_step + tl.load(source_slots + copy) * source_stride
    destination = destinations + cache * destination_step
    destination += tl.load(destination_slots + copy) * destination_stride
    tl.store(destination + lanes, tl.load(source + lanes, mask=is_copied), mask=is_copied)


def copy_slots(
    sources: Tensor, destinations: Tensor, source_slots: Tensor, destination_slots: Tensor
) -> None:
    """Copy slot `source_slots[i]` to slot `destination_slots[i]` in every cache, in any order.

    Args:
        sources, destinations: [num_caches, num_slots, num_kv_heads, head_dim]. Slots that are read must not
            be written. The heads of a slot are contiguous.
        source_slots, destination_slots: int64 [num_copies], on the device.
    """
    num_caches, num_copies = len(sources), len(source_slots)
    row_size = sources[0, 0].numel()
    chunk = min(triton.next_power_of_2(row_size), MAX_CHUNK)
    _copy_kernel[(num_copies, num_caches, triton.cdiv(row_size, chunk))](
        sources,
        destinations,
        source_slots,
        destination_slots,
        sources.stride(0),
        destinations.stride(0),
        sources.stride(1),
        destinations.stride(1),
        row_size=row_size,
        chunk=chunk,
        num_warps=4,
        enable_fp_fusion=True,
    )
