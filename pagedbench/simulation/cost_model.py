"""Batch to seconds: what every cost model answers, and the published linear fits of whole iterations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from pagedbench.simulation.block_sizes import STATED, USUAL_BLOCK_SIZE
from pagedbench.simulation.cards import CARDS
from pagedbench.simulation.roofline import COPY_SHARE, MOVE_SECONDS
from pagedbench.simulation.shapes import BUILT_IN_SHAPES

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.manager import Copy
    from pagedbench.scheduling.batch import Batch


class StepTimes(Protocol):
    """A cost model."""

    @property
    def source(self) -> str:
        """Where its numbers come from, in words."""
        ...

    @property
    def attention(self) -> str:
        """What decoding attention over blocks takes, in words; empty where there are none."""
        ...

    def step_time(self, batch: Batch) -> float:
        """Seconds that the batch takes."""
        ...


@dataclass(frozen=True, slots=True)
class LinearCostModel:
    """An iteration's time as a linear function of what it computes and moves, padding included.

    Coefficients in milliseconds: `base` an iteration, `context` a token that decoding attention reads,
    `decode` a decoding sequence, `prompt` a prompt token, `copy` a token copied between slots, `swap` a
    token moved to or from the host, `move` a block moved.
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
        """The same for an engine with other blocks than those it was measured with."""
        factor = STATED.at(block_size) / STATED.at(USUAL_BLOCK_SIZE)
        words = f"{factor:.3g} x at blocks of {block_size} what was fitted at {USUAL_BLOCK_SIZE}"
        return replace(self, context=factor * self.context, attention=f"{words}; {STATED.source}")

    def step_time(self, batch: Batch) -> float:
        """Seconds that the batch takes."""
        return 1e-3 * (
            self.base
            + self.context * batch.decode_context
            + self.decode * len(batch.decodes)
            + self.prompt * batch.num_computed_prefill_tokens
            + self.copy * _num_tokens(batch.copies)
            + self._swap_time(batch.swap_outs)
            + self._swap_time(batch.swap_ins)
        )

    def _swap_time(self, moves: Items[Copy]) -> float:
        """Milliseconds. Every block crosses the bus by itself, in each layer (paper, section 7.3)."""
        if not moves:
            return 0.0
        return self.swap * _num_tokens(moves) + self.move * len(moves)


def _num_tokens(copies: Items[Copy]) -> int:
    return sum(copy.num_slots for copy in copies) if copies else 0


_DISTSERVE = "linear fit of vLLM's step times on A100-80GB published with DistServe (OSDI'24)"
_SCALED = f"{_DISTSERVE}, memory-bound terms scaled to the 40 GB card's bandwidth"


def _measured(
    device: str, model: str, ranks: int, coefficients: tuple[float, float, float, float], source: str
) -> LinearCostModel:
    """Measured step times; copies and moves from bytes and bandwidths, of one of `ranks` cards."""
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
"""(device, model, tensor-parallel size) -> step times (DistServe's `time_estimator.py`)."""
