"""Cost models: the interface, and published linear fits of whole iterations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from pagedbench.simulation.batch_costs import num_slots
from pagedbench.simulation.block_sizes import STATED, USUAL_BLOCK_SIZE
from pagedbench.simulation.cards import CARDS
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.simulation.roofline import COPY_SHARE, MOVE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.moves import Copy
    from pagedbench.scheduling.batch import Batch


class StepTimes(Protocol):
    """A cost model: the seconds of a batch."""

    @property
    def source(self) -> str:
        """The source of its numbers, in words."""
        ...

    @property
    def attention(self) -> str:
        """The cost of decode attention over blocks, in words; empty without blocks."""
        ...

    def step_time(self, batch: Batch) -> float:
        """The seconds that a batch takes."""
        ...


@dataclass(frozen=True, slots=True)
class LinearCostModel:
    """An iteration's time as a linear function of what it computes and moves, padding included.

    Coefficients in milliseconds: `base` per iteration, `context` per token that decoding attention reads,
    `decode` per decoding sequence, `prompt` per prompt token, `copy` per token copied between slots, `swap`
    per token and `move` per block moved to or from the host.
    """

    base: float
    context: float
    decode: float
    prompt: float
    source: str
    copy: float = 0.0
    swap: float = 0.0
    move: float = 0.0
    attention: str = ""

    def with_block_size(self, block_size: int) -> LinearCostModel:
        """The cost model of an engine with blocks of another size."""
        factor = STATED.at(block_size) / STATED.at(USUAL_BLOCK_SIZE)
        words = f"{factor:.3g} x at blocks of {block_size}, relative to the fit at {USUAL_BLOCK_SIZE}"
        return replace(self, context=factor * self.context, attention=f"{words}; {STATED.source}")

    def step_time(self, batch: Batch) -> float:
        """The seconds that a batch takes."""
        return 1e-3 * (
            self.base
            + self.context * batch.decode_context
            + self.decode * len(batch.decodes)
            + self.prompt * batch.num_computed_prefill_tokens
            + self.copy * num_slots(batch.copies)
            + self._swap_time(batch.moves_out)
            + self._swap_time(batch.moves_in)
        )

    def _swap_time(self, moves: Items[Copy]) -> float:
        """Milliseconds of moves. Each block of each layer is moved by itself (paper, section 7.3)."""
        if not moves:
            return 0.0
        return self.swap * num_slots(moves) + self.move * len(moves)


_DISTSERVE = "vllm-2023: linear fit of whole steps, host included, on A100-80GB, published with DistServe"
_SCALED = f"{_DISTSERVE}, memory-bound terms scaled to the 40 GB card's bandwidth"


def _measured(
    device: str, model: str, ranks: int, coefficients: tuple[float, float, float, float], source: str
) -> LinearCostModel:
    """A model of measured step times; copies and moves follow from the bytes and bandwidths of one card."""
    shape, card = BUILT_IN_SHAPES[model], CARDS[device]
    kv_bytes = shape.kv_bytes_per_token(element_size=2) / ranks
    return LinearCostModel(
        *coefficients,
        source,
        copy=1e3 * 2 * kv_bytes / (COPY_SHARE * card.bandwidth),  # read and written
        swap=1e3 * kv_bytes / card.bus,
        move=1e3 * MOVE_SECONDS * 2 * shape.num_layers,  # keys and values of each layer
    )


LINEAR_COST_MODELS = {
    (device, model, ranks): _measured(device, model, ranks, coefficients, source)
    for device, model, ranks, coefficients, source in (
        ("a100-40gb", "opt-13b", 1, (29.8, 7.77e-4, 0.0607, 0.1405), _SCALED),
        ("a100-40gb", "opt-66b", 4, (47.5, 9.1e-4, 0.136, 0.2129), _SCALED),
        ("a100-80gb", "opt-13b", 1, (23.48, 5.929e-4, 0.0607, 0.1405), _DISTSERVE),
        ("a100-80gb", "opt-66b", 4, (39.58, 6.946e-4, 0.136, 0.2129), _DISTSERVE),
    )
}
"""Step times by device, model and tensor-parallel size (DistServe's `time_estimator.py`)."""
