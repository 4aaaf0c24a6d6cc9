"""Small tensors gain nothing from threads."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _seeded_on_one_thread(one_thread: None) -> None:
    import torch

    torch.manual_seed(0)
