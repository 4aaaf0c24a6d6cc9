"""Calibration: the costs of a machine from batches that it was timed on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.simulation.batch_costs import num_pairs, num_slots
from pagedbench.simulation.profile import FittedCosts
from pagedbench.tools.calibrate.fitting import Errors, errors_of, fit_shares

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from pagedbench.scheduling.batch import Batch

LAYER_KNOTS = (1, 4, 8, 14, 22, 32, 48, 64, 128, 256, 512, 1024, 2048)
"""Tokens of an iteration at which its time is fitted; straight lines lie between."""

HEAD_KNOTS = (1, 4, 8, 14, 22, 32, 48, 64, 128, 256)
"""Rows that are sampled from; the first row is part of every iteration, and of the layers' curve."""

LOADS = ("decodes", "prompts", "paged_context", "contiguous_context", "pairs", "copied", "swapped", "moves")


@dataclass(frozen=True, slots=True)
class Load:
    """What a batch computes, reads and moves: everything that its time depends on."""

    tokens: int
    rows: int
    decodes: int
    prompts: int
    paged_context: int
    contiguous_context: int
    pairs: int
    copied: int
    swapped: int
    moves: int


@dataclass(frozen=True, slots=True)
class Timed:
    """A batch that really ran."""

    load: Load
    seconds: float


def load_of(batch: Batch, attention: str) -> Load:
    """The load of a batch whose decodes find their tokens by "paged" or "contiguous" attention."""
    moved = (*batch.swap_outs, *batch.swap_ins)
    is_paged = attention == "paged"
    return Load(
        tokens=len(batch.decodes) + batch.num_computed_prefill_tokens,
        rows=len(batch.decodes) + sum(1 for prefill in batch.prefills if prefill.sampled),
        decodes=len(batch.decodes),
        prompts=len(batch.prefills),
        paged_context=batch.decode_context if is_paged else 0,
        contiguous_context=0 if is_paged else batch.decode_context,
        pairs=sum(num_pairs(prefill, batch.padded_len) for prefill in batch.prefills),
        copied=num_slots(batch.copies),
        swapped=num_slots(moved),
        moves=len(moved),
    )


def fit_costs(timed: Items[Timed]) -> FittedCosts:
    """The costs that predict the batches best. No cost is below 0, and curves never fall."""
    layer_knots = _reached(LAYER_KNOTS, max(item.load.tokens for item in timed))
    head_knots = _reached(HEAD_KNOTS, max(item.load.rows for item in timed))
    seconds = np.array([item.seconds for item in timed])
    fitted = fit_shares(_features([item.load for item in timed], layer_knots, head_knots), seconds)
    layers, heads, rest = np.split(fitted, (len(layer_knots), len(layer_knots) + len(head_knots) - 1))
    of = dict(zip(LOADS, rest.tolist(), strict=True))
    return FittedCosts(
        step=0.0,
        layers=dict(zip(layer_knots, np.cumsum(layers).tolist(), strict=True)),
        head=dict(zip(head_knots, [0.0, *np.cumsum(heads).tolist()], strict=True)),
        sequence=of["decodes"],
        prompt=of["prompts"],
        context={"paged": of["paged_context"], "contiguous": of["contiguous_context"]},
        pair=of["pairs"],
        copy=of["copied"],
        swap=of["swapped"],
        move=of["moves"],
    )


@dataclass(frozen=True, slots=True)
class LoopTime:
    """What an engine's loop took beside an iteration's execution: scheduling, updating, recording."""

    sequences: int
    seconds: float


def with_loop(fitted: FittedCosts, times: Items[LoopTime]) -> FittedCosts:
    """The costs with what an engine's loop adds: an iteration, and a sequence in it.

    Args:
        times: of whole engines. Of each number of sequences the median counts.
    """
    by_count: dict[int, list[float]] = {}
    for item in times:
        by_count.setdefault(item.sequences, []).append(item.seconds)
    counts = np.array(sorted(by_count), dtype=np.float64)
    medians = np.array([median(by_count[int(count)]) for count in counts])
    step, sequence = fit_shares(np.stack([np.ones_like(counts), counts], axis=1), medians).tolist()
    return replace(fitted, step=step, sequence=fitted.sequence + sequence)


def fit_errors(fitted: FittedCosts, timed: Items[Timed]) -> Errors:
    """Of batches, seen by the fit or not."""
    seconds = np.array([item.seconds for item in timed])
    return errors_of(np.array([predicted_seconds(fitted, item.load) for item in timed]), seconds)


def predicted_seconds(fitted: FittedCosts, load: Load) -> float:
    """What the costs say of a load."""
    layers, head = (np.array(list(knots.values())) for knots in (fitted.layers, fitted.head))
    return float(
        fitted.step
        + _weights(load.tokens, tuple(fitted.layers)) @ layers
        + _weights(load.rows, tuple(fitted.head)) @ head
        + fitted.sequence * load.decodes
        + fitted.prompt * load.prompts
        + fitted.context["paged"] * load.paged_context
        + fitted.context["contiguous"] * load.contiguous_context
        + fitted.pair * load.pairs
        + fitted.copy * load.copied
        + fitted.swap * load.swapped
        + fitted.move * load.moves
    )


def _reached(knots: tuple[int, ...], most: int) -> tuple[int, ...]:
    return tuple(knot for knot in knots if knot <= most) or knots[:1]


def _features(
    loads: Items[Load], layer_knots: tuple[int, ...], head_knots: tuple[int, ...]
) -> NDArray[np.float64]:
    """A row a batch; a curve's coefficients are its rises from knot to knot, so that it never falls."""
    layers = np.stack([_rises(_weights(load.tokens, layer_knots)) for load in loads])
    head = np.stack([_rises(_weights(load.rows, head_knots))[1:] for load in loads])
    rest = np.array([[getattr(load, name) for name in LOADS] for load in loads], dtype=np.float64)
    return np.concatenate((layers, head, rest), axis=1)


def _rises(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of values as weights of the rises that add up to them."""
    return np.asarray(np.cumsum(weights[::-1])[::-1], dtype=np.float64)


def _weights(count: int, knots: tuple[int, ...]) -> NDArray[np.float64]:
    """How much of each knot's value there is at `count`, as in `batch_costs`.  # [num_knots]"""
    if count >= knots[-1]:
        return np.asarray(np.eye(len(knots))[-1] * (count / knots[-1]), dtype=np.float64)
    return np.array([np.interp(count, knots, unit) for unit in np.eye(len(knots))])
