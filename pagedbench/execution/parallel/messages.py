"""The messages from rank 0 to the others: plain data that can be pickled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pagedbench.execution.model_runner import PoolLayout
    from pagedbench.execution.step_inputs import StepInputs
    from pagedbench.memory.moves import Copy


@dataclass(frozen=True, slots=True)
class Load:
    """Load your part of a model and of the KV pool; they replace the previous ones.

    Attributes:
        model: a name that every rank can load.
        dtype, kv_dtype: names of dtypes.
        kv_slots: tokens in the pool; each rank has its own heads of them.
        std: standard deviation of random weights.
    """

    model: str
    load_format: str
    dtype: str
    kv_dtype: str
    device: str
    kernels: str
    kv_slots: int
    seed: int
    std: float = 0.02


@dataclass(frozen=True, slots=True)
class NewEngine:
    """Prepare the pool for an engine.

    Attributes:
        num_disk_slots: slots in the file for evicted prefixes; 0: there is no file.
        disk_folder: folder of that file; None: the system's temporary one.
    """

    engine: int
    layout: PoolLayout
    num_disk_slots: int = 0
    disk_folder: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Compute an iteration of an engine.

    It is sent with the longest arrays in 32 bits where their numbers fit; the model takes 64.
    """

    engine: int
    inputs: StepInputs

    @classmethod
    def of(cls, engine: int, inputs: StepInputs) -> Step:
        """The message of an iteration."""
        return cls(engine, _with_arrays(inputs, _narrow))

    @property
    def received(self) -> StepInputs:
        """The inputs as they were."""
        return _with_arrays(self.inputs, lambda array: array.astype(np.int64))


def _with_arrays(inputs: StepInputs, change: Callable[[NDArray[Any]], NDArray[Any]]) -> StepInputs:
    return replace(
        inputs,
        token_ids=change(inputs.token_ids),
        positions=change(inputs.positions),
        slots=change(inputs.slots),
        more_groups=tuple(replace(group, slots=change(group.slots)) for group in inputs.more_groups),
    )


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.int32) if array.max(initial=0) <= np.iinfo(np.int32).max else array


@dataclass(frozen=True, slots=True)
class WriteDisk:
    """Begin to write evicted blocks to the disk."""

    engine: int
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class ReadDisk:
    """Begin to read evicted blocks from the disk."""

    engine: int
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class EndRead:
    """Wait until the read is over, and say whether it has succeeded."""

    engine: int


@dataclass(frozen=True, slots=True)
class DropEngine:
    """The engine will not run again."""

    engine: int


@dataclass(frozen=True, slots=True)
class Stop:
    """The program ends."""


Message: TypeAlias = Load | NewEngine | Step | WriteDisk | ReadDisk | EndRead | DropEngine | Stop
