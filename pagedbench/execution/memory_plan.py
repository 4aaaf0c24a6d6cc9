"""MemoryPlan: what parameters, activations and workspace leave of a device for the KV pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.execution.shapes import ModelShape

USABLE_SHARE = 0.95
WORKSPACE_BYTES = 2**30
PLANNED_BATCHED_TOKENS = 2560

PUBLISHED_BLOCKS = {
    ("a100-40gb", "opt-13b", 1): 981,
    ("a100-40gb", "opt-66b", 4): 606,
    ("a100-80gb", "opt-175b", 8): 3756,
}
"""Blocks of 16 tokens in the paper's Table 1 (15.7K, 9.7K and 60.1K slots): used where they are known."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How one rank's device memory is split, in bytes. The KV pool gets what the others leave."""

    total: int
    parameters: int
    activations: int
    workspace: int

    @property
    def kv_cache(self) -> int:
        return int(USABLE_SHARE * self.total) - self.parameters - self.activations - self.workspace

    def rows(self, num_ranks: int) -> tuple[tuple[str, float], ...]:
        """Labels and bytes of all ranks together, for people."""
        return (
            ("device memory", float(self.total * num_ranks)),
            ("parameters", float(self.parameters * num_ranks)),
            ("activations", float(self.activations * num_ranks)),
            ("workspace", float(self.workspace * num_ranks)),
            ("left for the KV cache", float(self.kv_cache * num_ranks)),
        )


def plan_memory(shape: ModelShape, total: int, num_ranks: int, element_size: int = 2) -> MemoryPlan:
    """The authors' sizing rule (`cacheflow/models/memory_analyzer.py`), for one of `num_ranks` devices.

    Ranks share the matrices and the token embeddings; each has all positions, biases and norms.
    Activations are the larger of two buffers for a full batch: attention and feed-forward
    intermediates, or the logits and their copy.
    """
    tokens, hidden = PLANNED_BATCHED_TOKENS, shape.hidden_size
    replicated = shape.num_parameters - shape.num_divisible_parameters
    intermediates = max(3 * tokens * hidden, tokens * shape.ffn_size) // num_ranks + tokens * hidden
    logits = tokens * shape.vocab_size
    return MemoryPlan(
        total=total,
        parameters=element_size * (shape.num_divisible_parameters // num_ranks + replicated),
        activations=element_size * 2 * max(intermediates, logits),
        workspace=WORKSPACE_BYTES,
    )
