"""What rank 0 tells the others: flat data, and nothing alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pagedbench.execution.model_runner import PoolLayout
    from pagedbench.execution.step_inputs import StepInputs
    from pagedbench.memory.moves import Copy


@dataclass(frozen=True, slots=True)
class Load:
    """Load your part of a model and of the KV pool; they replace those that were there.

    Attributes:
        model: a name that every rank can load.
        dtype, kv_dtype: names of dtypes.
        kv_slots: tokens in the pool, in the heads of each rank.
        std: of random weights.
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
        num_disk_slots: of the file that evicted prefixes go to; 0: there is none.
        disk_folder: of that file; None: the system's temporary one.
    """

    engine: int
    layout: PoolLayout
    num_disk_slots: int = 0
    disk_folder: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Compute an iteration of an engine."""

    engine: int
    inputs: StepInputs


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
    """The program is over."""


Message: TypeAlias = Load | NewEngine | Step | WriteDisk | ReadDisk | EndRead | DropEngine | Stop
