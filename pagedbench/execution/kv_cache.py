"""KVCache: the tensors behind the slots, the same for every system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.execution.shapes import ModelShape


class KVCacheError(ConfigError):
    """The pool does not fit the device."""


class KVCache:
    """Keys and values of every layer, addressed by slot; allocated once.

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
        size = (2, shape.num_layers, num_slots, shape.num_kv_heads, shape.head_dim)
        self.num_slots = num_slots
        self.dtype = dtype
        self.device = torch.device(device)
        self.num_bytes = num_slots * shape.kv_bytes_per_token(dtype.itemsize)
        try:
            pool = torch.empty(size, dtype=dtype, device=self.device)
        except RuntimeError as error:
            raise KVCacheError(
                f"a KV pool of {num_slots:,} slots for {shape.name} takes "
                f"{self.num_bytes / 2**30:,.1f} GiB, which the {self.device.type} device does not have: "
                "lower --kv-slots"
            ) from error
        self.keys: tuple[Tensor, ...] = pool[0].unbind()
        self.values: tuple[Tensor, ...] = pool[1].unbind()

    @property
    def tensors(self) -> list[Tensor]:
        """All of them, for operations that move slots."""
        return [*self.keys, *self.values]
