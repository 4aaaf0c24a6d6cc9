from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pagedbench.runs.api import simulate
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
    with pytest.raises(ValueError, match="lengths"):
        list(csv_lines({"a": np.arange(3), "b": np.arange(2)}))


@pytest.mark.parametrize(("system", "caches"), [("paged", True), ("paged", False), ("orca-oracle", False)])
def test_cached_tokens_are_the_hits_of_the_iterations(system: str, caches: bool) -> None:
    made = simulate(
        system=system,
        model="opt-13b",
        duration=20.0,
        shared_prefix_len=200,
        shared_prefix_groups=2,
        prefix_caching=True if caches else None,
    )
    cached, hits = made.requests["cached_tokens"], made.steps["prefix_hits"]
    assert made.summary["preemptions_recompute"] == 0
    assert cached.sum() == hits.sum()
    assert (cached.sum() > 0) == (system == "paged")  # registered prefixes are found without the cache, too
    assert (cached < made.requests["prompt_len"]).all()


def test_a_second_look_up_after_a_preemption_is_no_cached_token() -> None:
    made = simulate(model="opt-13b", rate=6.0, duration=20.0, kv_slots=4000, prefix_caching=True,
                    shared_prefix_len=100)  # fmt: skip
    assert made.summary["preemptions_recompute"] > 0
    cached, hits = made.requests["cached_tokens"], made.steps["prefix_hits"]
    assert 0 < cached.sum() < hits.sum()
    assert cached.max() <= made.requests["prompt_len"].max()
