"""The fit finds costs that are known, and its draws lie around them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pagedbench.simulation.batch_costs import at
from pagedbench.simulation.profile import read_profile
from pagedbench.tools.calibrate.twin.fit import NUM_DRAWS, fit_twin
from pagedbench.tools.calibrate.twin.iterations import iterations_of
from pagedbench.tools.calibrate.twin.loads import designed_loads
from tools.calibrate.twin.servers import TRUE, limits, plan_with, profile_of
from tools.calibrate.twin.simulated_server import SimulatedServer

BATCHES = (
    (1, 30, ()), (1, 900, ()), (3, 100, ()), (12, 300, ()), (16, 200, ()),
    (0, 0, (60,)), (0, 0, (900,)), (10, 200, (300,)), (12, 100, (24, 700)),
)  # fmt: skip
"""Sequences that decode, tokens that each has, and prompts."""


def fit_of(**noise):
    server, bounds = SimulatedServer(plan_with(), **noise), limits()
    loads = [trace for seed in (0, 1, 2) for trace in designed_loads(bounds, seed)]
    return fit_twin([iterations_of(trace.requests, server.send(trace), bounds) for trace in loads], 0)


def seconds(fitted, batch):
    decodes, context, prompts = batch
    costs = fitted.costs("paged", "")
    return (
        costs.step
        + at(costs.layers, decodes + sum(prompts))
        + at(costs.head, decodes + len(prompts))
        + costs.sequence * decodes
        + costs.context * context * decodes
        + costs.prompt * len(prompts)
        + costs.pair * sum(length * (length + 1) / 2 for length in prompts)
    )


def test_known_costs_are_found():
    fit = fit_of(delay=0.003)
    found = [seconds(fit.fitted, batch) for batch in BATCHES]
    assert found == pytest.approx([seconds(TRUE, batch) for batch in BATCHES], rel=0.01)
    assert fit.delay == pytest.approx(0.003, rel=0.05)
    assert fit.domain.sequences == 16
    assert fit.drift < 0.01


@pytest.fixture(scope="module")
def noisy():
    return fit_of(noise=0.08, drift=0.02, delay=0.003, jitter=2e-4, merged=0.005)


def test_noise_moves_them_little(noisy):
    errors = [seconds(noisy.fitted, batch) / seconds(TRUE, batch) - 1 for batch in BATCHES]
    assert np.abs(errors).max() < 0.08
    assert np.abs(errors).mean() < 0.03


def test_draws_lie_around_what_is_true(noisy):
    assert len(noisy.draws) == NUM_DRAWS
    inside = 0
    for batch in BATCHES:
        drawn = [seconds(draw.fitted, batch) for draw in noisy.draws]
        inside += min(drawn) <= seconds(TRUE, batch) <= max(drawn)
    assert inside >= len(BATCHES) - 1


def test_a_prediction_lies_among_the_draws(noisy):
    """Also where the few iterations of short loads were slower than all others."""
    server, bounds = SimulatedServer(plan_with()), limits()
    loads = [
        iterations_of(trace.requests, server.send(trace), bounds)
        for seed in range(3)
        for trace in designed_loads(bounds, seed)
    ]
    slow = [
        [replace(item, seconds=1.3 * item.seconds) for item in seen] if len(seen) < 60 else seen
        for seen in loads
    ]
    for fit in (noisy, fit_twin(slow, 0), fit_twin([[], *slow], 0)):
        for batch in BATCHES:
            ratios = [seconds(draw.fitted, batch) / seconds(fit.fitted, batch) for draw in fit.draws]
            assert min(ratios) < 1 < max(ratios), batch
            assert np.mean(ratios) == pytest.approx(1, abs=0.03), batch


def test_single_iterations_scatter_as_they_did(noisy):
    ratios = np.array(noisy.variation.ratios)
    assert ratios.mean() == pytest.approx(1.0)
    assert 0.05 < ratios.std() < 0.12


def test_equal_observations_make_equal_profiles(noisy, tmp_path):
    again = fit_of(noise=0.08, drift=0.02, delay=0.003, jitter=2e-4, merged=0.005)
    first, second = (json.dumps(profile_of(fit).document()) for fit in (noisy, again))
    assert first == second
    path = tmp_path / "twin.json"
    path.write_text(first)
    assert read_profile(path).document() == profile_of(noisy).document()
