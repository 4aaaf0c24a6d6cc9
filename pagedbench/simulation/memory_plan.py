"""MemoryPlan: the device memory that parameters, activations and workspace leave for the KV pool."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from pagedbench.simulation.shapes import ModelShape

USABLE_SHARE = 0.95
"""Default of `--gpu-memory-utilization`: the authors' rule."""

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
MAX_BYTES = 2**60
"""A larger size is a typing error."""

WORKSPACE_BYTES = 2**30
PLANNED_BATCHED_TOKENS = 2560

PUBLISHED_BLOCKS = {
    ("a100-40gb", "opt-13b", 1): 981,
    ("a100-40gb", "opt-66b", 4): 606,
    ("a100-80gb", "opt-175b", 8): 3756,
}
"""Blocks of 16 tokens in the paper's Table 1 (15.7K, 9.7K and 60.1K slots), used for these setups."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How the device memory of all ranks is split, in bytes. The KV pool gets the rest.

    ```
    total = unusable + parameters + activations + workspace + kv_cache        kv_cache: the pool, and unused
    ```
    """

    total: int
    unusable: int
    parameters: int
    activations: int
    workspace: int

    @property
    def kv_cache(self) -> int:
        """Bytes for the KV cache; below 0 if the model does not fit."""
        return self.total - self.unusable - self.parameters - self.activations - self.workspace

    def rows(self, kv_bytes: int) -> tuple[tuple[str, int], ...]:
        """Labels and bytes. The first row is the sum of the next five, the sixth that of the last two.

        Args:
            kv_bytes: bytes of the pool.
        """
        return (
            ("device memory", self.total),
            ("unusable", self.unusable),
            ("parameters", self.parameters),
            ("activations", self.activations),
            ("workspace", self.workspace),
            ("left for the KV cache", self.kv_cache),
            ("of it the KV pool", kv_bytes),
            ("of it unused", self.kv_cache - kv_bytes),
        )

    def check(self, model: str, option: str, kv_bytes: int) -> None:
        """Check that there is room for the pool that an option asks for (0: for any pool).

        Raises:
            ConfigError: there is no room.
        """
        split = (
            f"of {_gib(self.total)} GiB, {_gib(self.unusable)} are unusable, {_gib(self.parameters)} go to "
            f"parameters, {_gib(self.activations)} to activations and {_gib(self.workspace)} to workspace"
        )
        advice = "raise --tensor-parallel-size or --gpu-memory-utilization, or choose a larger card"
        if self.kv_cache <= 0:
            raise ConfigError(f"{model} leaves no memory for keys and values: {split}; {advice}")
        if kv_bytes > self.kv_cache:
            raise ConfigError(
                f"{option} is {_gib(kv_bytes)} GiB, but {model} leaves {_gib(self.kv_cache)} for keys and "
                f"values ({split}): make it smaller, {advice}"
            )


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.2f}"


def plan_memory(
    shape: ModelShape, device_memory: int, num_ranks: int, usable_share: float, element_size: int = 2
) -> MemoryPlan:
    """The authors' sizing rule (`cacheflow/models/memory_analyzer.py`), for `num_ranks` equal devices.

    Ranks share the matrices and the token embeddings; each has all positions, biases and norms.
    Activations are the larger of two buffers for a full batch: attention and feed-forward
    intermediates, or the logits and their copy.
    """
    tokens, hidden = PLANNED_BATCHED_TOKENS, shape.hidden_size
    replicated = shape.num_parameters - shape.num_divisible_parameters
    intermediates = max(3 * tokens * hidden, tokens * shape.ffn_width) // num_ranks + tokens * hidden
    logits = tokens * shape.vocab_size
    return MemoryPlan(
        total=num_ranks * device_memory,
        unusable=num_ranks * (device_memory - int(usable_share * device_memory)),
        parameters=num_ranks * element_size * (shape.num_divisible_parameters // num_ranks + replicated),
        activations=num_ranks * element_size * 2 * max(intermediates, logits),
        workspace=num_ranks * WORKSPACE_BYTES,
    )


def parse_bytes(text: str) -> int:
    """The bytes in "12GiB", "512 MiB", "1e9" or "12GB".

    Raises:
        ConfigError: it is not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([KMG]?I?B?)\s*", text, re.IGNORECASE)
    if match is None or match[2].upper() not in UNITS:
        raise ConfigError(f"{text!r} is not a size in bytes: write it like 12GiB, 800MiB or 1e9")
    size = float(match[1]) * UNITS[match[2].upper()]
    if size > MAX_BYTES:
        raise ConfigError(f"{text!r} is more memory than any machine has: write it like 12GiB or 800MiB")
    return int(size)
