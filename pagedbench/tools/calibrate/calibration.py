"""The costs of a machine, fitted to batches that were timed on it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.simulation.batch_costs import num_pairs, num_slots
from pagedbench.simulation.fitted_costs import FittedCosts
from pagedbench.tools.calibrate.fitting import Errors, errors_of, fit_shares

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from pagedbench.scheduling.batch import Batch

    Vector = NDArray[np.float64]

LAYER_KNOTS = (1, 4, 8, 14, 22, 32, 48, 64, 128, 256, 512, 1024, 2048)
"""Tokens per iteration at which its time is fitted; between them the curve is linear."""

HEAD_KNOTS = (1, 4, 8, 14, 22, 32, 48, 64, 128, 256)
"""Sampled rows; the first row is part of every iteration, and of the layers' curve."""

LINEAR = ("decodes", "prompts", "paged_context", "contiguous_context", "pairs", "copied", "swapped",
          "moves")  # fmt: skip
"""Fields of `Load` with a constant cost each."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much a batch computes, reads and moves: everything that its time depends on."""

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
    """The load of a batch that was executed on the device, and its time."""

    load: Load
    seconds: float


@dataclass(frozen=True, slots=True)
class LoopTime:
    """The time of an engine's loop around an iteration's execution: scheduling, updating, recording."""

    sequences: int
    seconds: float


def load_of(batch: Batch, attention: str) -> Load:
    """The load of a batch. `attention`: "paged" or "contiguous", of its decodes."""
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
    """The costs that predict the batches best. No cost is negative, and curves never fall."""
    layer_knots = reached(LAYER_KNOTS, max(item.load.tokens for item in timed))
    head_knots = reached(HEAD_KNOTS, max(item.load.rows for item in timed))
    features = np.array([
        [
            *rises(item.load.tokens, layer_knots),
            *rises(item.load.rows, head_knots)[1:],
            *_linear(item.load),
        ]
        for item in timed
    ])  # fmt: skip
    fitted = fit_shares(features, np.array([item.seconds for item in timed]))
    layers, head, linear = np.split(fitted, (len(layer_knots), len(layer_knots) + len(head_knots) - 1))
    sequence, prompt, paged, contiguous, pair, copy, swap, move = linear.tolist()
    return FittedCosts(
        step=0.0,
        layers=dict(zip(layer_knots, np.cumsum(layers).tolist(), strict=True)),
        head=dict(zip(head_knots, [0.0, *np.cumsum(head).tolist()], strict=True)),
        sequence=sequence,
        prompt=prompt,
        context={"paged": paged, "contiguous": contiguous},
        pair=pair,
        copy=copy,
        swap=swap,
        move=move,
    )


def with_loop(fitted: FittedCosts, times: Items[LoopTime]) -> FittedCosts:
    """The costs with what an engine's loop adds to an iteration, and to each sequence in it.

    Args:
        times: of whole engines; for each number of sequences, the median is used.
    """
    by_count: dict[int, list[float]] = defaultdict(list)
    for item in times:
        by_count[item.sequences].append(item.seconds)
    features = np.array([(1.0, count) for count in by_count])
    step, sequence = fit_shares(features, np.array([median(found) for found in by_count.values()])).tolist()
    return replace(fitted, step=step, sequence=fitted.sequence + sequence)


def fit_errors(fitted: FittedCosts, timed: Items[Timed]) -> Errors:
    """The errors of the costs on batches, which may or may not be those of the fit."""
    predicted = np.array([predicted_seconds(fitted, item.load) for item in timed])
    return errors_of(predicted, np.array([item.seconds for item in timed]))


def predicted_seconds(fitted: FittedCosts, load: Load) -> float:
    """The time of a load according to the costs."""
    curves = (fitted.layers, load.tokens), (fitted.head, load.rows)
    by_curves = sum(_curve(count, tuple(knots), list(knots.values())) for knots, count in curves)
    linear = (
        fitted.sequence, fitted.prompt, fitted.context["paged"], fitted.context["contiguous"], fitted.pair,
        fitted.copy, fitted.swap, fitted.move,
    )  # fmt: skip
    return fitted.step + by_curves + float(np.dot(linear, _linear(load)))


def reached(knots: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The knots up to `most`, the largest number that was measured."""
    return tuple(knot for knot in knots if knot <= most) or knots[:1]


def _linear(load: Load) -> list[float]:
    return [getattr(load, name) for name in LINEAR]


def rises(count: int, knots: tuple[int, ...]) -> list[float]:
    """How much of each rise from knot to knot a curve has at `count`: rises of 0 or more never fall."""
    return [_curve(count, knots, [float(knot >= first) for knot in knots]) for first in knots]


def _curve(count: int, knots: tuple[int, ...], values: Items[float]) -> float:
    """A curve at `count`, as in `batch_costs`: linear between knots; after the last, its mean slope."""
    if count >= knots[-1]:
        return values[-1] * count / knots[-1]
    return float(np.interp(count, knots, values))
