"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real lengths, tokenizers and a small trained model, which the project does not ship."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PAGEDBENCH_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip("no test data: set PAGEDBENCH_TEST_DATA to a folder that holds it")
    return folder
