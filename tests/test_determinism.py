"""Every run of the tests draws the same numbers, unless PAGEDBENCH_FUZZ asks for others."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import settings


@pytest.mark.parametrize("times", [1, 2])
def test_generators_begin_anew_with_each_test(times: int) -> None:
    assert random.random() == random.Random(0).random()
    assert np.random.rand() == np.random.RandomState(0).rand()
    assert torch.rand(1).item() == torch.rand(1, generator=torch.Generator().manual_seed(0)).item()


def test_examples_are_fixed_and_untimed() -> None:
    default = settings.default
    assert default is not None
    assert default.deadline is None
    if settings.get_current_profile_name() != "fuzz":
        assert default.derandomize
        assert default.database is None
