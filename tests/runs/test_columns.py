from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pagedbench.runs.columns import FLOAT_FORMAT, PORTION, csv_lines


@pytest.mark.parametrize("number", [0, 1, PORTION, 2 * PORTION + 3])
def test_writes_what_pandas_writes(number: int) -> None:
    draws = np.random.default_rng(number)
    floats = draws.normal(scale=100.0, size=number)
    floats[::7] = np.nan
    columns = {
        "count": draws.integers(-5, 10**12, size=number),
        "seconds": floats,
        "tiny": np.full(number, -1e-12),
        "status": ["completed"] * number,
    }
    expected = pd.DataFrame(columns).to_csv(index=False, float_format=FLOAT_FORMAT, lineterminator="\n")
    assert "".join(csv_lines(columns)) == expected


def test_columns_must_be_equally_long() -> None:
    with pytest.raises(ValueError, match="zip"):
        list(csv_lines({"a": np.arange(3), "b": np.arange(2)}))
