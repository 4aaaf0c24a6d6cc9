"""KVCache: the tensors behind the slots, on the device and on the host; the same for every system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pagedbench.config import ConfigError
from pagedbench.execution.swap_stream import swap_stream

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from torch import Tensor

    from pagedbench.memory.manager import Copy
    from pagedbench.ops.interface import Ops
    from pagedbench.simulation.shapes import ModelShape


class KVCacheError(ConfigError):
    """The pool does not fit the device."""


class KVCache:
    """Keys and values of every layer, addressed by slot; allocated once.

    A second pool of the same layout lies on the host, for groups that are swapped out. It takes memory
    only when the first of them is. On a GPU, swaps run beside the other work until `join_swaps`.

    ```
                 slot 0        slot 1              slot num_slots - 1
    key   [i]: [kv_heads, d] [kv_heads, d]  ...      [kv_heads, d]
    value [i]: [kv_heads, d] [kv_heads, d]  ...      [kv_heads, d]       one pair for each layer i
    ```
    A slot holds one token. The memory is not touched here, so on the CPU the operating system backs only
    what is used. `keys` and `values` have a tensor [num_slots, num_kv_heads, head_dim] for each layer.

    Raises:
        KVCacheError: the device cannot give that much memory.
    """

    def __init__(
        self, shape: ModelShape, num_slots: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self._shape = shape
        self.num_slots = num_slots
        self.num_host_slots = 0
        self.dtype = dtype
        self.device = torch.device(device)
        self.num_bytes = num_slots * shape.kv_bytes_per_token(dtype.itemsize)
        try:
            pool = torch.empty(self._size(num_slots), dtype=dtype, device=self.device)
        except RuntimeError as error:
            raise KVCacheError(
                f"a KV pool of {num_slots:,} slots for {shape.name} takes "
                f"{self.num_bytes / 2**30:,.1f} GiB, which the {self.device.type} device does not have: "
                "lower --kv-slots"
            ) from error
        self.keys: tuple[Tensor, ...] = pool[0].unbind()
        self.values: tuple[Tensor, ...] = pool[1].unbind()
        self.tensors = (*self.keys, *self.values)
        self._host: tuple[Tensor, ...] = ()  # as `tensors`, once there is a host pool
        self._swaps = swap_stream(self.device)

    def _size(self, num_slots: int) -> tuple[int, ...]:
        shape = self._shape
        return (2, shape.num_layers, num_slots, shape.num_kv_heads, shape.head_dim)

    def reserve_host(self, num_slots: int) -> None:
        """The host pool may be as large as this from now on; what it held is lost if it has to grow."""
        if num_slots > self.num_host_slots:
            self.num_host_slots = num_slots
            self._host = ()

    def copy(self, copies: Items[Copy], ops: Ops) -> None:
        """Copy tokens between slots of the device; all are read before any is written. Joins the swaps."""
        if copies:
            self.join_swaps()
            ops.copy_runs(self.tensors, self.tensors, _runs(copies))

    def swap_out(self, moves: Items[Copy], ops: Ops) -> None:
        """Move tokens from slots of the device to slots of the host.

        Raises:
            KVCacheError: the host cannot give that much memory.
        """
        if moves:
            self._host = self._host or self._host_tensors()
            device, host, runs = self.tensors, self._host, _runs(moves)
            self._swaps.run(lambda: ops.copy_runs(device, host, runs))

    def swap_in(self, moves: Items[Copy], ops: Ops) -> None:
        """Move tokens from slots of the host to slots of the device."""
        if moves:
            device, host, runs = self.tensors, self._host, _runs(moves)
            self._swaps.run(lambda: ops.copy_runs(host, device, runs))

    def join_swaps(self) -> None:
        """From now on slots that were swapped out may be written, and those swapped in may be read."""
        self._swaps.join()

    def _host_tensors(self) -> tuple[Tensor, ...]:
        is_pinned = self.device.type == "cuda"  # so that the copies run beside the host's own work
        try:
            pool = torch.empty(self._size(self.num_host_slots), dtype=self.dtype, pin_memory=is_pinned)
        except RuntimeError as error:
            num_bytes = self.num_host_slots * self._shape.kv_bytes_per_token(self.dtype.itemsize)
            raise KVCacheError(
                f"a host pool of {num_bytes / 2**30:,.1f} GiB for swapped requests is more than this "
                "machine has: lower --swap-space, or ask for --preemption recompute"
            ) from error
        return pool.flatten(0, 1).unbind()


def _runs(copies: Items[Copy]) -> Tensor:
    """Source, destination and length of every copy; neighbours on both sides are one.  # [num_runs, 3]"""
    table = np.array([(copy.source, copy.destination, copy.num_slots) for copy in copies], dtype=np.int64)
    table = table[table[:, 1].argsort()]
    ends = table[:-1, :2] + table[:-1, 2:]  # where each would go on: [num_copies - 1, 2]
    is_first = np.concatenate(([True], (table[1:, :2] != ends).any(axis=1)))  # [num_copies]
    firsts = np.flatnonzero(is_first)
    runs = np.column_stack((table[firsts, :2], np.add.reduceat(table[:, 2], firsts)))
    return torch.from_numpy(runs)
