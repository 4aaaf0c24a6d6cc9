"""KVCache: the tensors behind the slots, on the device and on the host; the same for every system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from torch import Tensor

    from pagedbench.execution.shapes import ModelShape
    from pagedbench.memory.manager import Copy


class KVCacheError(ConfigError):
    """The pool does not fit the device."""


class KVCache:
    """Keys and values of every layer, addressed by slot; allocated once.

    A second pool of the same layout lies on the host, for groups that are swapped out. It takes memory
    only when the first of them is.

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
        self._host: list[Tensor] = []  # as `tensors`, once there is a host pool

    def _size(self, num_slots: int) -> tuple[int, ...]:
        shape = self._shape
        return (2, shape.num_layers, num_slots, shape.num_kv_heads, shape.head_dim)

    @property
    def tensors(self) -> list[Tensor]:
        """All of them, for operations that move slots."""
        return [*self.keys, *self.values]

    def reserve_host(self, num_slots: int) -> None:
        """The host pool may be as large as this from now on; what it held is lost if it has to grow."""
        if num_slots > self.num_host_slots:
            self.num_host_slots = num_slots
            self._host = []

    def swap_out(self, moves: Items[Copy]) -> None:
        """Move tokens from slots of the device to slots of the host.

        Raises:
            KVCacheError: the host cannot give that much memory.
        """
        if moves and not self._host:
            self._host = self._host_tensors()
        self._move(moves, self.tensors, self._host)

    def swap_in(self, moves: Items[Copy]) -> None:
        """Move tokens from slots of the host to slots of the device."""
        self._move(moves, self._host, self.tensors)

    def _host_tensors(self) -> list[Tensor]:
        is_pinned = self.device.type == "cuda"  # so that the copies run beside the host's own work
        try:
            pool = torch.empty(self._size(self.num_host_slots), dtype=self.dtype, pin_memory=is_pinned)
        except RuntimeError as error:
            num_bytes = self.num_host_slots * self._shape.kv_bytes_per_token(self.dtype.itemsize)
            raise KVCacheError(
                f"a host pool of {num_bytes / 2**30:,.1f} GiB for swapped requests is more than this "
                "machine has: lower --swap-space, or ask for --preemption recompute"
            ) from error
        return list(pool.flatten(0, 1).unbind())

    def _move(self, moves: Items[Copy], sources: list[Tensor], destinations: list[Tensor]) -> None:
        for move in moves:
            source = slice(move.source, move.source + move.num_slots)
            destination = slice(move.destination, move.destination + move.num_slots)
            for ours, theirs in zip(sources, destinations, strict=True):
                theirs[destination].copy_(ours[source], non_blocking=True)
