"""Fits find what data were made with, outliers or not."""

from __future__ import annotations

import numpy as np
import pytest

from pagedbench.tools.calibrate.fitting import errors_of, fit_formula, fit_shares


def test_a_formula_is_found_again():
    sizes = np.geomspace(1, 1e4, 200)

    def formula(parameters):
        return parameters[0] + sizes / parameters[1]

    measured = formula(np.array([3.0, 70.0]))
    measured[::20] *= 2
    assert fit_formula(formula, measured, np.array([1.0, 1.0])) == pytest.approx([3.0, 70.0], rel=0.02)


def test_shares_are_found_again_and_never_negative():
    random = np.random.default_rng(0)
    features = random.uniform(0, 10, (60, 4))
    truth = np.array([2.0, 0.0, 0.5, 7.0])
    measured = features @ truth
    measured[::15] *= 3
    found = fit_shares(features, measured)
    assert found == pytest.approx(truth, abs=0.03)
    assert (fit_shares(features, features @ np.array([1.0, -0.05, 1.0, 1.0])) >= 0).all()


def test_a_feature_that_nothing_has_costs_nothing():
    features = np.array([[1.0, 0.0], [2.0, 0.0]])
    assert fit_shares(features, np.array([3.0, 6.0])) == pytest.approx([3.0, 0.0])


def test_errors_are_shares_of_what_was_measured():
    errors = errors_of(np.array([1.1, 0.9, 2.0]), np.ones(3))
    assert (errors.num_rows, errors.median) == (3, pytest.approx(0.1))
    assert errors.percentile_95 == pytest.approx(0.91)
