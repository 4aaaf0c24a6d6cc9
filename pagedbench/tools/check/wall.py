"""Judging short real runs against calibrated runs of the same machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from pagedbench.metrics.formulas import find_metric
from pagedbench.metrics.statistics import (
    ALPHA,
    POWER,
    detectable,
    geometric_mean,
    holm_levels,
    paired_effect,
)
from pagedbench.metrics.student_t import critical_t
from pagedbench.show.judgement import Figure, Judgement, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as Items

    from pagedbench.metrics.statistics import Effect

SUITE = "wall"

LEAST_THRESHOLD = 0.05
"""Least relative change that fails, because runs of one day do not show how a machine varies over days."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of one metric in equal runs, as relative changes.

    Attributes:
        mean: geometric mean, in the metric's unit.
        deviation: standard deviation of the log ratio of two runs.
        threshold: a larger change fails if it is also significant.
        detectable: a change that fails with probability POWER.
    """

    metric: str
    mean: float
    deviation: float
    threshold: float
    detectable: float


def noise_of(runs: Mapping[str, Items[float]]) -> list[Noise]:
    """The noise of every metric; each has at least two runs.

    The threshold is the half-width of the interval of a mean of the same number of log ratios, at the
    strictest level of Holm's procedure, but at least LEAST_THRESHOLD.
    """
    level = 1 - ALPHA / len(runs)
    return [_noise(name, values, level) for name, values in runs.items()]


def _noise(name: str, values: Items[float], level: float) -> Noise:
    mean, count = geometric_mean(values), len(values)
    deviation = math.sqrt(2) * paired_effect([mean] * count, values).deviation
    error = deviation / math.sqrt(count)
    threshold = max(math.log1p(LEAST_THRESHOLD), critical_t(level, count - 1) * error)
    beyond = threshold + NormalDist().inv_cdf(POWER) * error
    change = max(beyond, detectable(deviation, count, level=level))
    return Noise(name, mean, deviation, math.expm1(threshold), math.expm1(change))


def judge_wall(before: Mapping[str, Items[float]], after: Mapping[str, Items[float]]) -> list[Judgement]:
    """One judgement per metric. Both sides have the same metrics and number of independent runs."""
    effects = {name: paired_effect(before[name], values) for name, values in after.items()}
    levels = holm_levels([effect.p_value for effect in effects.values()])
    return [
        _judgement(noise, effects[noise.metric], level, geometric_mean(after[noise.metric]))
        for noise, level in zip(noise_of(before), levels, strict=True)
    ]


def _judgement(noise: Noise, effect: Effect, level: float, mean: float) -> Judgement:
    metric = find_metric(noise.metric)
    harm = -effect.relative if metric.better == "higher" else effect.relative
    low, high = (100 * effect.as_relative(bound) for bound in effect.interval(level))
    is_worse = harm > noise.threshold and effect.p_value < 1 - level
    change = f"{100 * abs(harm):.1f} % {'worse' if harm > 0 else 'better'}"
    verdict = "beyond" if is_worse else "not a regression at"
    message = (
        f"{metric.name} of real runs: {change} (interval {low:+.1f} to {high:+.1f} %), {verdict} the "
        f"threshold of {100 * noise.threshold:.1f} %; {100 * noise.detectable:.1f} % would be detected"
    )
    outcome = Outcome.FAILED if is_worse else Outcome.PASSED
    figure = Figure(metric.name, metric.unit, metric.better, noise.mean, mean)
    return Judgement(SUITE, metric.name, outcome, message, (figure,))


def not_judged(reason: str) -> Judgement:
    """A judgement for real runs that cannot be compared. `reason`: a sentence without its full stop."""
    return Judgement(SUITE, "real runs", Outcome.NOT_JUDGED, reason, ())
