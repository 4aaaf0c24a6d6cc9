"""The operations of `interface.Ops` by Triton kernels on CUDA tensors; matrix products are by cuBLAS.

Only `copy_runs` waits for the device or reads values from it: all others can be part of a CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pagedbench.kernels.triton import decode
from pagedbench.kernels.triton.copy_slots import copy_slots
from pagedbench.kernels.triton.norm import layer_norm, rms_norm
from pagedbench.kernels.triton.prefill import attend_prefill
from pagedbench.kernels.triton.rotate_and_write_kv import rotate_and_write_kv
from pagedbench.kernels.triton.silu_gate import silu_gate
from pagedbench.kernels.triton.tiles import tile_of
from pagedbench.kernels.triton.write_kv import write_kv
from pagedbench.ops import reference
from pagedbench.ops.addresses import BlockTables
from pagedbench.ops.reference import padded_prefill

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from pagedbench.ops.addresses import Addresses
    from pagedbench.ops.fused import FusedLayers, LayerWeights
    from pagedbench.ops.interface import Linear

__all__ = [
    "attend_decode",
    "attend_prefill",
    "copy_runs",
    "layer_norm",
    "linear",
    "name",
    "padded_prefill",
    "rms_norm",
    "rotate_and_write_kv",
    "write_kv",
]

# Where cuBLAS sums a product in parts, as of a single row: in float32, not in the 16 bits it may take.
torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False

name = "triton"
SUPPORTED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

INTERPRETED_PROCESSORS = 16
"""The number of SMs assumed in Triton's interpreter: enough to split contexts."""


def fuse(layers: Sequence[LayerWeights]) -> FusedLayers | None:
    """See `Ops.fuse`: nothing."""
    return None


def attend_decode(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    addresses: Addresses,
    context_lens: Tensor,
    scale: float,
    window: int | None = None,
    sinks: int = 0,
    softcap: float | None = None,
    sink_logits: Tensor | None = None,
) -> Tensor:
    """See `Ops.attend_decode`; the wider the block tables, the more programs may share a context."""
    max_seen = len(key_cache)
    if isinstance(addresses, BlockTables):
        max_seen = addresses.tables.shape[1] * addresses.block_size
    if window is not None:
        max_seen = min(max_seen, window + sinks)
    # From shapes alone: reading the lengths themselves would wait for the device.
    num_programs, max_tiles = len(query) * key_cache.shape[1], -(-max_seen // tile_of(query))
    num_splits = decode.choose_num_splits(num_programs, max_tiles, _num_processors(query.device))
    where, scores = (key_cache, value_cache, addresses, context_lens), (softcap, sink_logits)
    return decode.decode(query, *where, scale, window, sinks, *scores, num_splits)


def _num_processors(device: torch.device) -> int:
    if device.type != "cuda":
        return INTERPRETED_PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count


def copy_runs(sources: Sequence[Tensor], destinations: Sequence[Tensor], runs: Tensor) -> None:
    """See `Ops.copy_runs`. Between device and host it is one kernel too, queued on the current stream: it
    reads or writes the host's pinned memory over the bus, wherever the slots lie. That memory must not be
    used until the kernel has ended. Memory that is not pinned takes a copy per run.
    """
    if not len(runs):
        return
    if not (_is_reachable(sources[0]) and _is_reachable(destinations[0])):
        for first, target, length in runs.tolist():
            for ours, theirs in zip(sources, destinations, strict=True):
                theirs[target : target + length].copy_(ours[first : first + length], non_blocking=True)
        return
    slots = _slots_of(runs)
    overlap = sources[0].data_ptr() == destinations[0].data_ptr() and bool(np.isin(*slots).any())
    device = (sources if sources[0].is_cuda else destinations)[0].device
    source_slots, destination_slots = torch.from_numpy(slots).to(device)
    for ours, theirs in _stacks(sources, destinations):
        if not overlap:
            copy_slots(ours, theirs, source_slots, destination_slots)
            continue
        order = torch.arange(len(source_slots), device=device)
        between = ours.new_empty((len(ours), len(order), *ours.shape[2:]))  # all read before any is written
        copy_slots(ours, between, source_slots, order)
        copy_slots(between, theirs, order, destination_slots)


def _is_reachable(cache: Tensor) -> bool:
    """Can a kernel read and write it? Triton's interpreter runs where there is no GPU, on any memory."""
    return cache.is_cuda or not torch.cuda.is_available() or cache.is_pinned()


def _slots_of(runs: Tensor) -> NDArray[np.int64]:
    """Runs, slot by slot: sources and destinations.  # [2, num_slots]"""
    firsts, lens = runs[:, :2].numpy().T, runs[:, 2].numpy()
    within = np.arange(lens.sum()) - np.repeat(lens.cumsum() - lens, lens)  # [num_slots]
    return np.add(np.repeat(firsts, lens, axis=1), within)


def _stacks(sources: Sequence[Tensor], destinations: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """All caches as one pair of [num_caches, num_slots, num_kv_heads, head_dim] if they are evenly spaced,
    as those of a pool are; otherwise pairs of one cache each.
    """
    ours, theirs = _stacked(sources), _stacked(destinations)
    if ours is not None and theirs is not None:
        yield ours, theirs
        return
    for source, destination in zip(sources, destinations, strict=True):
        yield source[None], destination[None]


def _stacked(caches: Sequence[Tensor]) -> Tensor | None:
    first = caches[0]
    storage = first.untyped_storage().data_ptr()
    offsets = [cache.storage_offset() for cache in caches]
    step = offsets[1] - offsets[0] if len(caches) > 1 else 0
    is_even = step >= 0 and offsets == [offsets[0] + i * step for i in range(len(caches))]
    is_alike = all(
        cache.untyped_storage().data_ptr() == storage and cache.stride() == first.stride()
        for cache in caches
    )
    if not (is_even and is_alike):
        return None
    return first.as_strided((len(caches), *first.shape), (step, *first.stride()), offsets[0])


def linear(weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Linear:
    """See `Ops.linear`; the gate of SwiGLU is a separate kernel."""
    if activation != "silu_gated":
        return reference.linear(weight, bias, activation)
    return GatedLinear(reference.linear(weight, bias), weight.shape[0] // 2)


@dataclass(frozen=True, slots=True)
class GatedLinear:
    """silu(gate) * up of a fused projection. See `interface.Linear`."""

    gate_up: Linear
    out_features: int

    def __call__(self, x: Tensor) -> Tensor:
        return silu_gate(self.gate_up(x))  # [num_tokens, out_features]

    def argmax(self, x: Tensor) -> Tensor:
        """See `interface.Linear`."""
        return self(x).argmax(dim=-1)
