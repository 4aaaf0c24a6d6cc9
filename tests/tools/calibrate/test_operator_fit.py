"""The committed coefficients are those of the data, and predict what no fit has seen."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from pagedbench.config import ConfigError
from pagedbench.simulation import a100_times
from pagedbench.tools.calibrate.operator_fit import (
    MODELS,
    RANKS,
    errors_on,
    fit_matrices,
    fit_passes,
    held_out_errors,
    products,
    read_measured,
)


@pytest.fixture(scope="module")
def measured(test_data):
    return read_measured(test_data / "a100-operator-times")


def test_every_held_out_model_and_degree_is_predicted(measured):
    """Each is predicted from other models at other degrees: a layer's time, and single products in all."""
    found = held_out_errors(measured)
    assert len(found) == 12
    for index, ranks in enumerate(RANKS):
        layers = [row.layers for row in found[index :: len(RANKS)]]
        worst = a100_times.HELD_OUT_LAYERS[ranks]
        assert max(errors.median for errors in layers) == pytest.approx(worst.median, abs=1e-3)
        assert max(errors.percentile_95 for errors in layers) == pytest.approx(
            worst.percentile_95, abs=3e-3
        )
    for row in found:
        assert row.layers.num_rows == 261
        assert row.layers.median < 0.08, row.what
        assert row.layers.percentile_95 < 0.20, row.what
    assert np.mean([row.products.median for row in found]) < 0.08
    assert np.mean([row.products.percentile_95 for row in found]) < 0.20


def test_the_committed_coefficients_are_fitted_to_the_data(measured):
    """Their predictions are: where the best fit is a valley, coefficients along it predict the same."""

    def same(data, matrices):
        fitted = fit_matrices(data)
        for found, expected in zip(products(matrices, data), products(fitted, data), strict=True):
            assert found == pytest.approx(expected, rel=2e-3)

    same(measured, a100_times.MATRICES)
    assert astuple(fit_passes(measured)) == pytest.approx(astuple(a100_times.PASSES), rel=1e-3)
    for model, width in zip(MODELS, (4096, 5120, 8192), strict=True):
        own = measured[measured["model"] == model]
        same(own, a100_times.MATRICES_BY_WIDTH[width])
        layers, _ = errors_on(own, a100_times.MATRICES_BY_WIDTH[width], a100_times.PASSES)
        assert layers.median < 0.05


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="give the folder of Vidur's operator times"):
        read_measured(tmp_path)
