"""Batch to seconds: a linear step-time model, and where its coefficients come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.scheduling.batch import Batch


@dataclass(frozen=True, slots=True)
class LinearCostModel:
    """An iteration's time as a linear function of what it computes, padding included.

    Coefficients in milliseconds: `base` an iteration, `context` a token that decoding attention reads,
    `decode` a decoding sequence, `prompt` a prompt token.
    """

    base: float
    context: float
    decode: float
    prompt: float
    source: str

    def step_time(self, batch: Batch) -> float:
        """Seconds that the batch takes."""
        return 1e-3 * (
            self.base
            + self.context * batch.decode_context
            + self.decode * len(batch.decodes)
            + self.prompt * batch.num_computed_prefill_tokens
        )


_DISTSERVE = "linear fit of vLLM's step times on A100-80GB published with DistServe (OSDI'24)"
_SCALED = f"{_DISTSERVE}, memory-bound terms scaled to the 40 GB card's bandwidth"

LINEAR_COST_MODELS = {
    ("a100-40gb", "opt-13b", 1): LinearCostModel(29.8, 7.77e-4, 0.0607, 0.1405, _SCALED),
    ("a100-40gb", "opt-66b", 4): LinearCostModel(47.5, 9.1e-4, 0.136, 0.2129, _SCALED),
    ("a100-80gb", "opt-13b", 1): LinearCostModel(23.48, 5.929e-4, 0.0607, 0.1405, _DISTSERVE),
    ("a100-80gb", "opt-66b", 4): LinearCostModel(39.58, 6.946e-4, 0.136, 0.2129, _DISTSERVE),
}
"""(device, model, tensor-parallel size) -> step times (DistServe's `time_estimator.py`)."""
