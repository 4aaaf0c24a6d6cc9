"""Runs that several tests look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.view.runs import saved_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def recomputing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose victims are computed again, with a cache of prefixes that is evicted from."""
    folder = tmp_path_factory.mktemp("view") / "recomputing"
    saved_run(folder, prefix_caching=True)
    return folder


@pytest.fixture(scope="session")
def swapping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of parallel samples, whose victims move to the host."""
    folder = tmp_path_factory.mktemp("view") / "swapping"
    saved_run(folder, n=2, temperature=1.0, preemption="swap")
    return folder


@pytest.fixture(scope="session")
def contiguous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view") / "contiguous"
    saved_run(folder, system="orca-pow2", kv_slots=8000)
    return folder
