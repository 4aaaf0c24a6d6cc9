"""The costs that explain a server's iterations best, and draws of others that explain them as well."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.simulation.fitted_costs import FittedCosts
from pagedbench.simulation.twin import Domain, Draw, Variation
from pagedbench.tools.calibrate.calibration import reached, rises
from pagedbench.tools.calibrate.fitting import Errors, errors_of, fit_shares

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from pagedbench.tools.calibrate.twin.iterations import Seen

    Vector = NDArray[np.float64]

KNOTS = (1, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
"""Tokens per iteration at which its time is fitted; between them the curve is linear."""

BIN_SIZE = 12
"""At most this many consecutive iterations of the same kind are averaged."""

NUM_DRAWS = 20
NUM_RATIOS = 64
"""The quantiles of the scatter of single iterations that are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """Averages of consecutive iterations of the same kind.

    Attributes:
        features: what the costs are multiplied by.  # [num_bins, num_features]
        seconds: the mean time of an iteration.  # [num_bins]
        counts: iterations in each bin.  # [num_bins]
        loads: the number of each bin's load, among the loads with iterations that were seen.  # [num_bins]
        knots: those of the curve over an iteration's tokens.
    """

    features: NDArray[np.float64]
    seconds: Vector
    counts: Vector
    loads: NDArray[np.int64]
    knots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """The costs that were found, and how well they explain the iterations.

    Attributes:
        num_seen: the number of iterations in the fit.
        errors: those on the bins.
        drift: how much slower the slowest load was than the fastest, beyond what the costs explain.
    """

    fitted: FittedCosts
    delay: float
    draws: tuple[Draw, ...]
    domain: Domain
    variation: Variation
    num_seen: int
    errors: Errors
    drift: float


def fit_twin(loads: Items[Items[Seen]], seed: int) -> Fit:
    """Fit the costs to the iterations of several loads.

    Each bootstrap draw is fitted to predictions that scatter as the measurements do: every load as a whole
    is multiplied by the factor of a load, drawn with replacement, and its bins by residual factors. A draw
    is then multiplied by one more load's factor. All factors have mean 1, so that the draws lie around the
    fit.
    """
    bins = bins_of(loads)
    found = _fit(bins, bins.seconds)
    expected = bins.features @ found
    factors, weights = _factors(bins, expected)
    rest = bins.seconds / expected / factors[bins.loads]
    rest /= rest.mean()
    random = np.random.Generator(np.random.PCG64(seed))
    draws = []
    for _ in range(NUM_DRAWS):
        shift = random.choice(factors, len(factors), p=weights)[bins.loads]
        sample = _fit(bins, expected * shift * random.choice(rest, len(rest)))
        draws.append(_costs(sample * random.choice(factors, p=weights), bins.knots))
    fitted, delay = _costs(found, bins.knots)
    return Fit(
        fitted=fitted,
        delay=delay,
        draws=tuple(Draw(*draw) for draw in draws),
        domain=_domain(loads),
        variation=Variation(_scatter(loads, found, bins.knots)),
        num_seen=sum(map(len, loads)),
        errors=errors_of(expected, bins.seconds),
        drift=float(factors.max() / factors.min() - 1),
    )


def bins_of(loads: Items[Items[Seen]]) -> Bins:
    """The iterations of all loads, averaged."""
    knots = reached(KNOTS, max(item.load.tokens for seen in loads for item in seen))
    rows, seconds, counts, numbers = [], [], [], []
    for number, seen in enumerate(filter(None, loads)):
        for alike in _alike(seen):
            rows.append(np.mean([features(item, knots) for item in alike], axis=0))
            seconds.append(float(np.mean([item.seconds for item in alike])))
            counts.append(float(len(alike)))
            numbers.append(number)
    return Bins(np.array(rows), np.array(seconds), np.array(counts), np.array(numbers), knots)


def _alike(seen: Items[Seen]) -> Iterator[list[Seen]]:
    """Groups of consecutive iterations that decode equally many sequences, and compute equal prompts."""
    for _, items in groupby(seen, key=lambda item: (item.num_idle, item.load.tokens, item.load.decodes)):
        run = list(items)
        yield from (run[start : start + BIN_SIZE] for start in range(0, len(run), BIN_SIZE))


def features(item: Seen, knots: tuple[int, ...]) -> list[float]:
    """What costs are multiplied by: rises of the curve, then sequences, prompts, context, pairs, delays."""
    load = item.load
    linear = (load.decodes, load.prompts, load.paged_context, load.pairs, item.num_idle)
    return [*rises(load.tokens, knots), *linear]


def _fit(bins: Bins, seconds: Vector) -> Vector:
    """Coefficients, none negative, scaled so that the predicted times add up to the measured total."""
    found = fit_shares(bins.features, seconds)
    weights = bins.counts
    return found * float((weights @ seconds) / (weights @ (bins.features @ found)))


def _factors(bins: Bins, expected: Vector) -> tuple[Vector, Vector]:
    """For each load, its measured / expected time, and its share of the expected time of all loads.

    The mean of the former, weighted by the latter, is 1 because of the fit's scale.  # both [num_loads]
    """
    took = np.bincount(bins.loads, bins.counts * bins.seconds)
    should = np.bincount(bins.loads, bins.counts * expected)
    return took / should, should / should.sum()


def _costs(found: Vector, knots: tuple[int, ...]) -> tuple[FittedCosts, float]:
    """The costs in a profile's terms, and the delay."""
    curve = np.cumsum(found[: len(knots)]).tolist()
    sequence, prompt, context, pair, delay = found[len(knots) :].tolist()
    fitted = FittedCosts(
        step=0.0,
        layers=dict(zip(knots, curve, strict=True)),
        head={1: 0.0},
        sequence=sequence,
        prompt=prompt,
        context={"paged": context, "contiguous": context},
        pair=pair,
        copy=0.0,
        swap=0.0,
        move=0.0,
    )
    return fitted, delay


def _scatter(loads: Items[Items[Seen]], found: Vector, knots: tuple[int, ...]) -> tuple[float, ...]:
    """Quantiles of the measured / expected time of busy iterations; their mean is 1."""
    busy = [item for seen in loads for item in seen if not item.num_idle]
    expected = np.array([features(item, knots) for item in busy]) @ found
    ratios = np.array([item.seconds for item in busy]) / expected
    levels = (np.arange(NUM_RATIOS) + 0.5) / NUM_RATIOS
    quantiles = np.quantile(ratios, levels)
    return tuple((quantiles / quantiles.mean()).tolist())


def _domain(loads: Items[Items[Seen]]) -> Domain:
    every = [item.load for seen in loads for item in seen]
    return Domain(
        sequences=max(load.decodes for load in every),
        prefill_tokens=max(load.tokens - load.decodes for load in every),
        kept_tokens=max(load.paged_context + load.tokens - load.decodes for load in every),
    )
