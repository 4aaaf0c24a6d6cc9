"""A machine with known costs is found again from what its batches took."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pagedbench.memory.moves import Copy
from pagedbench.simulation.fitted_costs import FittedCosts
from pagedbench.tools.calibrate.calibration import (
    LoopTime,
    Timed,
    fit_costs,
    fit_errors,
    load_of,
    predicted_seconds,
    with_loop,
)
from simulation.batches import batch_of

FEW = (1, 4, 8, 14, 22, 32, 48)

TRUE = FittedCosts(
    step=0.0,
    layers={1: 8e-3, 4: 9e-3, 14: 10e-3, 32: 11e-3, 64: 15e-3, 128: 27e-3, 256: 50e-3, 512: 99e-3},
    head={1: 0.0, 4: 1e-3, 14: 2e-3, 32: 4e-3, 64: 9e-3},
    sequence=0.0,
    prompt=0.2e-3,
    context={"paged": 1.5e-6, "contiguous": 1.2e-6},
    pair=2e-8,
    copy=3e-6,
    swap=5e-6,
    move=0.0,
)


def timed(batch, attention="paged", factor=1.0):
    load = load_of(batch, attention)
    return Timed(load, factor * predicted_seconds(TRUE, load))


def fit_set(noise):
    batches = [(batch_of(length), "paged") for length in (*FEW, 64, 128, 256, 512)]
    batches += [(batch_of(*[length] * count), "paged") for length, count in ((16, 8), (64, 4), (8, 16))]
    batches += [
        (batch_of(decodes=count, context=count * context), attention)
        for count in (*FEW, 64)
        for context in (16, 256, 1024)
        for attention in ("paged", "contiguous")
    ]
    batches += [(batch_of(decodes=4, context=64, copies=[Copy(0, 0, 16)] * n), "paged") for n in (4, 64)]
    batches += [(batch_of(decodes=4, context=64, swap_ins=[Copy(0, 0, 16)] * n), "paged") for n in (4, 64)]
    factors = np.random.default_rng(0).normal(1.0, noise, len(batches))
    return [timed(*pair, factor=factor) for pair, factor in zip(batches, factors, strict=True)]


HELD_OUT = [
    timed(batch_of(100, decodes=24, context=6000)),
    timed(batch_of(decodes=48, context=48 * 300), "contiguous"),
    timed(batch_of(300)),
    timed(batch_of(40, 80, decodes=3, context=1800)),
]


def test_exact_times_are_explained_exactly():
    fitted = fit_costs(fit_set(0.0))
    assert fit_errors(fitted, HELD_OUT).percentile_95 < 0.005
    assert fitted.context["paged"] == pytest.approx(1.5e-6, rel=0.01)
    assert fitted.context["contiguous"] == pytest.approx(1.2e-6, rel=0.01)
    assert fitted.copy == pytest.approx(3e-6, rel=0.02)


def test_noise_is_averaged():
    assert fit_errors(fit_costs(fit_set(0.03)), HELD_OUT).percentile_95 < 0.05


def test_costs_of_a_profile_are_what_was_fitted():
    for attention in ("paged", "contiguous"):
        costs = TRUE.costs(attention, "synthetic")
        for batch in (batch_of(100, decodes=24, context=6000), batch_of(2, (3, 9)), batch_of(700)):
            load = load_of(batch, attention)
            assert costs.step_time(batch) == pytest.approx(predicted_seconds(TRUE, load))


def test_what_the_loop_takes_is_a_part_an_iteration_and_a_part_a_sequence():
    times = []
    for count in range(1, 30):
        own = 1e-3 + count * 2e-4
        times += [LoopTime(count, seconds) for seconds in (own, own, 5.0)]
    found = with_loop(replace(TRUE, sequence=1e-5), times)
    assert found.step == pytest.approx(1e-3, rel=0.01)
    assert found.sequence == pytest.approx(2.1e-4, rel=0.01)
