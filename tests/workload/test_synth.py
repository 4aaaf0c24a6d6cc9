"""Drawn lengths: their distribution, and that the committed files are what is drawn."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from pagedbench.workload.bundled import traces_folder
from pagedbench.workload.formats import read_file
from pagedbench.workload.lengths_csv import write_lengths
from pagedbench.workload.rows import Row, TraceError
from pagedbench.workload.synth import QuantileTable, length_model, synthesize

TRACES = Path(__file__).resolve().parents[2] / "traces"
PUBLISHED = {"sharegpt": (161.2, 338.0), "alpaca": (19.3, 58.5), "synthetic": (128.0, 128.0)}


def columns(rows: list[Row]) -> np.ndarray:
    return np.array([(row.prompt_len, row.output_len) for row in rows]).T  # [2, num_rows]


def normal_scores(values: np.ndarray) -> np.ndarray:
    from scipy.stats import norm, rankdata

    return norm.ppf((rankdata(values) - 0.5) / len(values))


@pytest.mark.parametrize("name", ["sharegpt", "alpaca"])
def test_the_committed_files_are_what_is_drawn(name, tmp_path: Path):
    write_lengths(synthesize(name, 20_000, seed=0), tmp_path / "drawn.csv")
    drawn = (tmp_path / "drawn.csv").read_bytes()
    assert (TRACES / f"{name}.csv").read_bytes() == drawn
    assert hashlib.sha256(drawn).hexdigest() in (TRACES / "README.md").read_text()


def test_the_read_me_names_the_quantiles_too():
    digest = hashlib.sha256((TRACES / "distributions.json").read_bytes()).hexdigest()
    assert digest in (TRACES / "README.md").read_text()


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("seed", range(6))
def test_means_are_within_a_percent_at_every_seed(name, seed):
    prompts, outputs = columns(synthesize(name, 20_000, seed))
    assert prompts.mean() == pytest.approx(PUBLISHED[name][0], rel=0.01)
    assert outputs.mean() == pytest.approx(PUBLISHED[name][1], rel=0.01)
    assert prompts.min() >= 1
    assert outputs.min() >= 1
    assert (prompts + outputs).max() <= 2047


@pytest.mark.parametrize("name", ["sharegpt", "alpaca"])
def test_both_marginals_are_stratified(name):
    """Sorted, row i lies within slice i; the trading of outputs must keep the lengths as they are."""
    number = 4000
    model = length_model(name)
    edges = np.arange(number + 1) / number
    for lengths, marginal in zip(
        columns(synthesize(name, number, 3)), (model.prompt, model.output), strict=True
    ):
        ordered, bounds = np.sort(lengths), marginal.lengths(edges)
        assert (ordered >= bounds[:-1]).all()
        assert (ordered <= bounds[1:]).all()


@pytest.mark.parametrize(
    ("name", "correlation"), [("sharegpt", 0.16), ("alpaca", -0.175), ("synthetic", 0.0)]
)
def test_correlation_of_normal_scores(name, correlation):
    prompts, outputs = columns(synthesize(name, 20_000, 1))
    measured = np.corrcoef(normal_scores(prompts), normal_scores(outputs))[0, 1]
    assert measured == pytest.approx(correlation, abs=0.025)


def test_few_rows_fit_too():
    for seed in range(300):
        for row in synthesize("sharegpt", 2, seed):
            assert row.prompt_len + row.output_len <= 2047


def test_equal_seeds_draw_equal_rows_in_random_order():
    first = synthesize("alpaca", 500, 1)
    assert first == synthesize("alpaca", 500, 1)
    assert first != synthesize("alpaca", 500, 2)
    prompts, _ = columns(first)
    assert abs(np.corrcoef(prompts, np.arange(500))[0, 1]) < 0.15


def test_between_two_quantiles_the_logarithm_is_linear():
    table = QuantileTable((0.0, 0.5, 1.0), (1.0, 100.0, 100.0))
    assert table.lengths(np.array([0.0, 0.25, 0.5, 0.9])).tolist() == [1, 10, 100, 100]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sharegtp", 5, 0), "unknown set of lengths 'sharegtp': did you mean sharegpt"),
        (("alpaca", 0, 0), "number of rows is 0"),
        (("alpaca", 10**9, 0), "must be 1 to 10,000,000"),
        (("alpaca", 5, -1), "seed is -1"),
    ],
)
def test_impossible_draws(arguments, message):
    with pytest.raises(TraceError, match=message):
        synthesize(*arguments)


def test_the_quantiles_are_those_of_the_real_lengths(test_data: Path):
    published = json.loads((test_data / "distributions.json").read_text())
    bundled = json.loads(traces_folder().joinpath("distributions.json").read_text())
    assert bundled["quantile_levels_percent"] == published["quantile_levels_percent"]
    for name, table in bundled["sets"].items():
        original = published["sets"][name]
        assert table["normal_score_correlation"] == original["correlation"]["normal_score"]
        for side in ("prompt", "output"):
            assert table[side] == {key: original[side][key] for key in ("mean", "quantiles")}


def real_lengths(test_data: Path, name: str) -> np.ndarray:
    if name == "sharegpt":
        rows = read_file(test_data / "sharegpt" / "sharegpt_opt_lengths.csv.gz", lambda: None).rows
        return columns([row for row in rows if row.prompt_len + row.output_len < 2048])
    with gzip.open(test_data / "alpaca" / "alpaca_lengths_opt.csv.gz", "rt") as file:
        return np.array(
            [(int(r["prompt_tokens"]), int(r["output_tokens"])) for r in csv.DictReader(file)]
        ).T


@pytest.mark.parametrize("name", ["sharegpt", "alpaca"])
def test_drawn_lengths_are_distributed_as_the_real_ones(test_data: Path, name):
    real, drawn = real_lengths(test_data, name), columns(synthesize(name, 20_000, 0))
    levels = [5, 10, 25, 50, 75, 90, 95, 99]
    for real_side, drawn_side in zip(real, drawn, strict=True):
        expected, measured = np.percentile(real_side, levels), np.percentile(drawn_side, levels)
        assert measured == pytest.approx(expected, rel=0.02, abs=1)
        assert drawn_side.std() == pytest.approx(real_side.std(), rel=0.05)
    totals = np.percentile(drawn.sum(axis=0), levels)
    assert totals == pytest.approx(np.percentile(real.sum(axis=0), levels), rel=0.08)
    nearly_full = (drawn.sum(axis=0) > 1900).mean()
    assert nearly_full == pytest.approx((real.sum(axis=0) > 1900).mean(), abs=0.002)
