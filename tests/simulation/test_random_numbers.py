"""Numbers that belong to their keys."""

from __future__ import annotations

import numpy as np
from scipy import stats

from pagedbench.simulation.random_numbers import uniforms


def test_numbers_are_uniform_and_unrelated():
    numbers = uniforms(7, np.arange(400)[:, None], np.arange(100))
    assert numbers.shape == (400, 100)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert len(np.unique(numbers)) == 40_000
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 0.01
    for one, two in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.02


def test_equal_keys_give_equal_numbers_in_any_company():
    table = uniforms(3, np.arange(5)[:, None], np.arange(4))
    assert uniforms(3, 4, 2) == table[4, 2]
    assert uniforms(3, [4, 0], [2, 2]).tolist() == [table[4, 2], table[0, 2]]


def test_keys_are_not_interchangeable():
    assert len({float(uniforms(*keys)) for keys in ((1, 2, 0), (2, 1, 0), (0, 1, 2), (1, 2), (2, 1))}) == 5


def test_these_are_the_numbers_of_every_machine():
    assert uniforms(0, 1, 2, 3).item() == 0.5411209698165707
