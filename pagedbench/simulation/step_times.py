"""The cost model of a simulated card, by its name, the model and the number of ranks."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.simulation.batch_costs import BatchCosts
from pagedbench.simulation.block_sizes import USUAL_BLOCK_SIZE
from pagedbench.simulation.cards import FASTER_TRANSFORMER, LEAN, MODERN, VLLM_2023
from pagedbench.simulation.cost_model import LINEAR_COST_MODELS, LinearCostModel
from pagedbench.simulation.modern import KernelCosts, modern_costs
from pagedbench.simulation.operator_times import ELEMENT_SIZE
from pagedbench.simulation.roofline import roofline_costs
from pagedbench.simulation.shapes import SCALE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.scheduling.batch import Batch
    from pagedbench.simulation.cards import Card
    from pagedbench.simulation.cost_model import StepTimes
    from pagedbench.simulation.shapes import ModelShape

DEFAULT_COST_MODEL = "modern"

INT8_COSTS = (
    "keys and values of 8 bits: decode attention reads {share:.3g} of the bytes, and is assumed to stay "
    "limited by memory; converting them takes no time"
)
"""An assumption: no times of such kernels went into the fits."""


def step_times_of(
    cost_model: str,
    shape: ModelShape,
    card: Card,
    num_ranks: int,
    attention: str,
    *,
    block_size: int = USUAL_BLOCK_SIZE,
    is_request_level: bool = False,
    has_int8: bool = False,
) -> StepTimes:
    """The cost model of a name, for a system with "paged" or "contiguous" attention.

    - "modern": today's engines: kernels of vLLM 0.14 without host time, the same for all systems.
    - "vllm-2023": the programs that the paper measured. Its Orcas are its vLLM with another memory manager,
      so they have the same host time and attention; its FasterTransformer (`is_request_level`) has neither.
    - "published": linear fits of whole iterations of vLLM in 2023, the same for all systems.
    - "roofline": kernels of 2023 with a lean host, the same for all systems except for attention.

    `block_size` changes the time of paged attention by the same rule in all of them (`block_sizes.STATED`).
    `has_int8`: keys and values have 8 bits, which changes the bytes that are read and moved.

    Raises:
        ConfigError: the ranks cannot share the model, its step times are not published, or the cost model
            is of engines of 2023, which had neither experts nor 8-bit caches, and these are asked for.
    """
    if shape.num_heads % num_ranks:
        raise ConfigError(
            f"--tensor-parallel-size {num_ranks} does not divide the {shape.num_heads} heads of "
            f"{shape.name}: choose a divisor"
        )
    if shape.experts is not None and cost_model != "modern":
        raise ConfigError(
            f"--cost-model {cost_model} has no times of experts, which {shape.name} has: leave it out"
        )
    if has_int8:
        return _with_int8(cost_model, shape, card, num_ranks, attention, block_size)
    if cost_model == "roofline":
        return roofline_costs(shape, card, num_ranks, attention, LEAN, block_size)
    if cost_model == "modern":
        return modern_costs(shape, card, num_ranks, attention, MODERN, block_size)
    if cost_model == "vllm-2023":
        host, attention = (FASTER_TRANSFORMER, "contiguous") if is_request_level else (VLLM_2023, "paged")
        return roofline_costs(shape, card, num_ranks, attention, host, block_size)
    published = LINEAR_COST_MODELS.get((card.name, shape.name, num_ranks))
    if published is None:
        known = [f"{model} on {ranks} x {name}" for name, model, ranks in LINEAR_COST_MODELS]
        raise ConfigError(
            f"no step times are published for {shape.name} on {num_ranks} x {card.name}, only for "
            f"{', '.join(known)}: leave out --cost-model published"
        )
    return published.with_block_size(block_size)


def _with_int8(
    cost_model: str, shape: ModelShape, card: Card, num_ranks: int, attention: str, block_size: int
) -> StepTimes:
    """The cost model of an engine whose keys and values have 8 bits.

    Raises:
        ConfigError: the cost model is that of an engine without them.
    """
    share = (shape.head_dim + SCALE_SIZE) / (shape.head_dim * ELEMENT_SIZE)
    costs: KernelCosts | BatchCosts
    if cost_model == "modern":
        costs = modern_costs(shape, card, num_ranks, attention, MODERN, block_size, share)
    elif cost_model == "roofline":
        costs = roofline_costs(shape, card, num_ranks, attention, LEAN, block_size, share)
    else:
        raise ConfigError(
            f"--cost-model {cost_model} models an engine whose keys and values have 16 bits: choose modern "
            "or roofline, or leave out --kv-dtype int8"
        )
    return replace(costs, source=f"{costs.source}; {INT8_COSTS.format(share=share)}")


def per_slot(costs: StepTimes, share: float) -> StepTimes:
    """The cost model of a pool whose slots hold a token in `share` of the layers: moves take less time."""
    assert isinstance(costs, KernelCosts | BatchCosts | LinearCostModel), "a cost model of this package"
    if isinstance(costs, KernelCosts):
        return replace(costs, copy=share * costs.copy, swap=share * costs.swap)
    return replace(costs, copy=share * costs.copy, swap=share * costs.swap, move=share * costs.move)


def decode_times_of(costs: StepTimes) -> Callable[[Batch, int], list[float]] | None:
    """The function that gives the times of many decoding iterations at once; None where there is none."""
    if isinstance(costs, KernelCosts):
        series = cache(costs.series)
        return lambda batch, number: series(len(batch.decodes))(batch.decode_context, number)
    return costs.decode_times if isinstance(costs, BatchCosts) else None
