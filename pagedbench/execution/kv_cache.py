"""KVCache: the tensors behind the slots, in pools on the device and the host; the same for every system."""

from __future__ import annotations

import copy
from math import prod
from typing import TYPE_CHECKING

import torch

from pagedbench.config import ConfigError
from pagedbench.memory.moves import Pool
from pagedbench.simulation.shapes import SCALE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Items

    from torch import Tensor

    from pagedbench.execution.step_inputs import MoveInputs
    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.ops.interface import Ops
    from pagedbench.simulation.shapes import ModelShape


HOST_POOLS = {
    Pool.HOST: (
        "swapped requests is more than this machine has: lower --swap-space, or ask for --preemption "
        "recompute"
    ),
    Pool.HOST_CACHE: "evicted prefixes is more than this machine has: lower --host-cache",
}
"""The pools on the host, with what an error says if one is too large: its use, and what to change."""


class SwapStream:
    """Copies between pools, in the order they are queued; on a CPU each runs at once.

    A GPU has a separate stream for them, tied to the current one by events; the host waits for neither.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._copied: torch.cuda.Event | None = None  # recorded after copies that are not yet joined

    def run(self, copy: Callable[[], None]) -> None:
        """Queue `copy` after the device's work so far; it may run in parallel with later work."""
        if self._stream is None:
            copy()
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            copy()
        self._copied = self._stream.record_event()

    def join(self) -> None:
        """Let the device's further work wait for the queued copies."""
        if self._stream is not None and self._copied is not None:
            torch.cuda.current_stream(self._stream.device).wait_event(self._copied)
            self._copied = None


class KVCacheError(ConfigError):
    """The pool does not fit the device."""


class KVCache:
    """Keys and values of every layer, addressed by slot; allocated once.

    Pools of the same layout are on the host, for groups that are swapped out and for evicted blocks of
    prefixes. Each takes memory only when something is first moved there. All moves of an iteration between
    two pools are one call. On a GPU they run in parallel with other work until `join_swaps`.

    ```
                 slot 0        slot 1              slot num_slots - 1
    key   [i]: [kv_heads, d] [kv_heads, d]  ...      [kv_heads, d]
    value [i]: [kv_heads, d] [kv_heads, d]  ...      [kv_heads, d]       one pair for each layer i
    ```
    A slot holds one token, in all layers or, after `in_groups`, in those of one group. On the CPU the
    operating system backs only what was touched. `keys` and `values` have a tensor
    [num_slots, num_kv_heads, d] for each layer. d is head_dim, for int8 plus the 4 bytes of a scale
    (`ops.quantized`), which is copied with the rest.

    Raises:
        KVCacheError: the device cannot give that much memory.
    """

    def __init__(
        self, shape: ModelShape, num_slots: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self._num_tensors = shape.num_layers  # of keys, and as many of values
        self.head_dim = shape.head_dim  # without a scale
        self._row = (shape.num_kv_heads, shape.head_dim + (SCALE_SIZE if dtype == torch.int8 else 0))
        self.num_slots = num_slots
        self._num_host_slots = dict.fromkeys(HOST_POOLS, 0)
        self.dtype = dtype
        self.device = torch.device(device)
        self.num_bytes = prod(self._size(num_slots)) * dtype.itemsize
        try:
            pool = self._allocate()
        except RuntimeError as error:
            raise KVCacheError(
                f"a KV pool of {num_slots:,} slots for {shape.name} takes "
                f"{self.num_bytes / 2**30:,.1f} GiB, which the {self.device.type} device does not have: "
                "lower --kv-slots"
            ) from error
        self._lay_out(pool)
        self._swaps = SwapStream(self.device)
        self._views: dict[int, KVCache] = {}  # the same memory in other layouts, by their `_num_tensors`

    def _lay_out(self, pool: Tensor) -> None:
        """Use this pool, [2, num_tensors, num_slots, num_kv_heads, d]."""
        self._pool = pool.flatten(0, 1)  # [2 x num_tensors, num_slots, num_kv_heads, d]
        self.keys: tuple[Tensor, ...] = pool[0].unbind()
        self.values: tuple[Tensor, ...] = pool[1].unbind()
        self.tensors = (*self.keys, *self.values)
        self._host: dict[Pool, Tensor] = {}  # [2 x num_tensors, slots, kv_heads, d], once used

    def _allocate(self) -> Tensor:
        """The memory of the pool.  # [2, num_layers, num_slots, num_kv_heads, head_dim]"""
        return torch.empty(self._size(self.num_slots), dtype=self.dtype, device=self.device)

    def _size(self, num_slots: int) -> tuple[int, ...]:
        return (2, self._num_tensors, num_slots, *self._row)

    def touch(self, num_slots: int) -> None:
        """Let the operating system back the first slots now, and not in the first run that uses them."""
        if self.device.type == "cpu":
            self._pool[:, :num_slots].zero_()

    def in_groups(self, groups: Items[LayerGroup]) -> KVCache:
        """The same memory for a manager with these layer groups.

        ```
        key [i]: layer i of whichever group has the block        slots: more, of as many bytes less
        ```
        There is a pair of tensors for each layer of the largest group. Each layout has host pools of its
        own. Groups of equal sizes get the same object.
        """
        size = max(len(group.layers or self.keys) for group in groups)
        if size == self._num_tensors:
            return self
        if size not in self._views:
            self._views[size] = view = copy.copy(self)
            view._num_tensors = size
            view._num_host_slots = dict.fromkeys(HOST_POOLS, 0)
            view.num_slots = self.num_slots * self._num_tensors // size
            shape = view._size(view.num_slots)
            view.num_bytes = prod(shape) * self.dtype.itemsize
            view._lay_out(self._pool.flatten()[: prod(shape)].view(shape))
        return self._views[size]

    def reserve_host(self, num_slots: int, pool: Pool = Pool.HOST) -> None:
        """Let the host pool have at least `num_slots` slots; its content is lost if it has to grow."""
        if num_slots > self._num_host_slots[pool]:
            self._num_host_slots[pool] = num_slots
            self._host.pop(pool, None)

    def move(self, moves: MoveInputs, ops: Ops) -> None:
        """Copy tokens between slots; all are read before any is written.

        Copies between pools may run until `join_swaps`; those within a pool wait for them.

        Raises:
            KVCacheError: the host cannot give the memory of its pool.
        """
        source, destination = self._tensors_of(moves.source), self._tensors_of(moves.destination)
        runs = torch.from_numpy(moves.runs)  # [num_runs, 3]
        if moves.source is moves.destination:
            self.join_swaps()
            ops.copy_runs(source, destination, runs)
        else:
            self._swaps.run(lambda: ops.copy_runs(source, destination, runs))

    def join_swaps(self) -> None:
        """From now on slots that were swapped out may be written, and those swapped in may be read."""
        self._swaps.join()

    def _tensors_of(self, pool: Pool) -> tuple[Tensor, ...]:
        return self.tensors if pool is Pool.DEVICE else self.pool(pool).unbind()

    def pool(self, pool: Pool) -> Tensor:
        """Every layer's keys, then every layer's values, in the order of `tensors`.

        # [2 x num_tensors, num_slots, num_kv_heads, d]

        A pool of the host is allocated at first use, on a GPU in pinned memory, so that moves run beside
        the host's work.

        Raises:
            KVCacheError: the host cannot give the memory.
        """
        if pool is Pool.DEVICE:
            return self._pool
        if pool in self._host:
            return self._host[pool]
        num_slots, is_pinned = self._num_host_slots[pool], self.device.type == "cuda"
        try:
            tensors = torch.empty(self._size(num_slots), dtype=self.dtype, pin_memory=is_pinned)
        except RuntimeError as error:
            num_bytes = prod(self._size(num_slots)) * self.dtype.itemsize
            raise KVCacheError(
                f"a host pool of {num_bytes / 2**30:,.1f} GiB for {HOST_POOLS[pool]}"
            ) from error
        self._host[pool] = tensors.flatten(0, 1)
        return self._host[pool]
