"""Where a model's tensors come from: safetensors files, or seeded random numbers."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from pagedbench.simulation.config_shapes import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

_cpu: Any = None  # the native module, if it was built
with suppress(ImportError):
    _cpu = import_module("pagedbench.kernels._cpu")

INDEX_FILE = "model.safetensors.index.json"

NUM_QUANTILES = 2**16
"""Random weights are quantiles of the normal distribution, drawn by numbers of 16 bits."""


class Cut(NamedTuple):
    """A part of a tensor: along `dim`, which has `full` entries, those from `start` on."""

    dim: int
    start: int
    full: int

    def whole(self, part: torch.Size) -> list[int]:
        """The shape of the tensor that a part of this shape is cut from."""
        sizes = list(part)
        sizes[self.dim] = self.full
        return sizes


class Weights(ABC):
    """Tensors by their Hugging Face names, in the dtype and on the device of the run."""

    description: str
    """The words for them in a run's header."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.device = device

    @abstractmethod
    def read(self, name: str, out: Tensor, cut: Cut | None = None) -> None:
        """Fill `out`, which has the shape of the tensor or of the part that is cut from it.

        Raises:
            ModelError: there is no such tensor, or it has another shape.
        """

    def tensor(self, name: str, *shape: int) -> Tensor:
        """Read one tensor.  # [*shape]"""
        out = torch.empty(shape, dtype=self.dtype, device=self.device)
        self.read(name, out)
        return out

    def stacked(self, rows: Mapping[str, int], *columns: int) -> Tensor:
        """Read several tensors stacked into one.  # [sum of rows, *columns]"""
        out = torch.empty((sum(rows.values()), *columns), dtype=self.dtype, device=self.device)
        for name, part in zip(rows, out.split(list(rows.values())), strict=True):
            self.read(name, part)
        return out


class RandomWeights(Weights):
    """Normally distributed weights with standard deviation `std`; norms are the identity.

    Every tensor has its own generator, seeded by the seed and the tensor's name, and its numbers are drawn
    on the CPU: device, dtype, threads and the order of reading do not change the weights. A weight is one
    of `NUM_QUANTILES` quantiles in float32, rounded to the dtype: four times as fast as computing it.
    """

    description = "dummy (seeded random)"

    def __init__(self, seed: int, dtype: torch.dtype, device: torch.device, std: float = 0.02) -> None:
        super().__init__(dtype, device)
        self._seed = seed
        middles = (torch.arange(NUM_QUANTILES, dtype=torch.float64) + 0.5) / NUM_QUANTILES
        self._quantiles = (torch.special.ndtri(middles) * std).float()  # [NUM_QUANTILES]

    def read(self, name: str, out: Tensor, cut: Cut | None = None) -> None:
        if name.endswith("norm.weight"):
            out.fill_(1.0)
        elif name.endswith("norm.bias"):
            out.zero_()
        else:
            is_place = cut is None and out.device.type == "cpu" and out.is_contiguous()
            shape = out.shape if cut is None else cut.whole(out.shape)
            whole = out if is_place else torch.empty(shape, dtype=out.dtype)
            self._draw(name, whole.view(-1))
            if not is_place:
                out.copy_(whole if cut is None else whole.narrow(cut.dim, cut.start, out.shape[cut.dim]))

    def _draw(self, name: str, out: Tensor) -> None:
        """Fill `out`, [num_elements]. Four numbers of 16 bits come from one of the generator's 64."""
        seed = hashlib.sha256(f"{self._seed}:{name}".encode()).digest()[:8]
        generator, table = np.random.SFC64(int.from_bytes(seed, "little")), self._quantiles.to(out.dtype)
        if _cpu is not None:  # the same numbers, and threads draw at the same time
            _cpu.draw(*generator.state["state"]["state"].tolist(), table, out)
            return
        bits = torch.int32 if out.element_size() == 4 else torch.int16  # numpy knows no bfloat16
        quantiles, numbers = table.view(bits).numpy(), out.view(bits).numpy()
        indices = generator.random_raw(-(-len(numbers) // 4)).astype("<u8", copy=False).view("<u2")
        np.take(quantiles, indices[: len(numbers)], out=numbers, mode="clip")


class CheckpointWeights(Weights):
    """The safetensors files of a Hugging Face folder, in one piece or in shards with an index.

    Raises:
        ModelError: the folder holds no safetensors, or a file is missing or damaged.
    """

    description = "real"

    def __init__(self, folder: Path, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(dtype, device)
        self._folder = folder
        self._files = _tensor_files(folder)

    def has(self, name: str) -> bool:
        """Is there a tensor of this name?"""
        return self._stored(name) in self._files

    def _stored(self, name: str) -> str:
        """The tensor's name in the files; those saved without a head lack the first part of names."""
        return name if name in self._files else name.partition(".")[2]

    def read(self, name: str, out: Tensor, cut: Cut | None = None) -> None:
        from safetensors import SafetensorError, safe_open

        stored = self._stored(name)
        if stored not in self._files:
            raise ModelError(
                f"the weights in {self._folder} lack the tensor {name} that config.json asks for"
            )
        path = self._files[stored]
        try:
            with safe_open(path, framework="pt") as file:
                tensor = file.get_slice(stored)
                shape = list(tensor.get_shape())
                wanted = list(out.shape) if cut is None else cut.whole(out.shape)
                if shape == wanted:
                    out.copy_(tensor[_index(out.shape, cut)])
        except (SafetensorError, OSError) as error:
            raise ModelError(f"cannot read {path}: {error}; download the model again") from error
        if shape != wanted:
            raise ModelError(f"{name} in {path} has the shape {shape}, but config.json asks for {wanted}")


def _index(part: torch.Size, cut: Cut | None) -> tuple[slice, ...]:
    """The index of a part of a tensor; only this part is read from the file."""
    index = [slice(0, size) for size in part]
    if cut is not None:
        index[cut.dim] = slice(cut.start, cut.start + part[cut.dim])
    return tuple(index)


def _tensor_files(folder: Path) -> dict[str, Path]:
    """The file of each tensor."""
    from safetensors import SafetensorError, safe_open

    index = folder / INDEX_FILE
    if index.is_file():
        try:
            shards: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            return {name: folder / shard for name, shard in shards.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{index} is not an index of safetensors files: download the model again"
            ) from error
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ModelError(_no_weights_message(folder))
    try:
        with safe_open(path, framework="pt") as file:
            return dict.fromkeys(file.keys(), path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot read {path}: {error}; download the model again") from error


def _no_weights_message(folder: Path) -> str:
    found = "only pickled weights, which are never loaded" if any(folder.glob("*.bin")) else "no weights"
    return (
        f"{folder} holds {found}: convert them to model.safetensors, "
        "or give --load-format dummy for seeded random weights"
    )
