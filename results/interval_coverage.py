"""How often the 95 % intervals of one run contain the mean over runs with other seeds.

    python results/interval_coverage.py measure FOLDER [SECONDS]   add simulated runs, until there are all
    python results/interval_coverage.py judge FOLDER               the tables of interval-coverage.md

A case is many runs of one configuration. What is estimated is the expected value over runs of that length,
the start from an empty system and the drain included: the mean of the runs' own figures.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.backend import load_backend
from pagedbench.config import RunConfig
from pagedbench.metrics.intervals import Samples
from pagedbench.metrics.observed import Statistic
from pagedbench.metrics.uncertainty import OVERLOADED, Uncertainty, uncertainty
from pagedbench.metrics.validity import is_overloaded
from pagedbench.plan import make_plan
from pagedbench.runs.traces import trace_of
from pagedbench.tools.compare.single_pair import ratio_bounds
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from pagedbench.workload.dataset import Dataset

    Run = tuple[NDArray[np.float64], bool]  # values in order of arrival, NaN included; overloaded

NUM_REQUESTS = 2000
COLUMNS = ("ttft", "tpot", "normalized_latency")
KINDS = ("mean", "p90")
NUM_SYNTHETIC = 1000


@dataclass(frozen=True, slots=True)
class Case:
    """Simulated runs that differ in their seed; `own_lengths`: and in which rows of the trace they have."""

    title: str
    trace: str
    rate: float  # requests/s
    num_runs: int = 200
    own_lengths: bool = False
    cost_model: str = "vllm-2023"


SHAREGPT, ALPACA = 1.8, 28.4
"""Capacities in requests/s: completed in the second half of the arrivals of an overloaded run."""

CASES = {
    "r60": Case("ShareGPT, 60 % of capacity", "sharegpt", 0.6 * SHAREGPT),
    "r90": Case("ShareGPT, 90 % of capacity", "sharegpt", 0.9 * SHAREGPT),
    "r90-lengths": Case(
        "ShareGPT, 90 %, other requests in every run", "sharegpt", 0.9 * SHAREGPT, 100, True
    ),
    "alpaca-60": Case("Alpaca, 60 % of capacity", "alpaca", 0.6 * ALPACA),
    "alpaca-90": Case("Alpaca, 90 % of capacity", "alpaca", 0.9 * ALPACA),
    "alpaca-60-roofline": Case("", "alpaca", 0.6 * ALPACA, cost_model="roofline"),
}
PAIR = ("alpaca-60", "alpaca-60-roofline")
"""Cases with the same requests by seed, of which pairs are judged."""


def measure(folder: Path, seconds: float) -> None:
    """Runs that the folder does not have yet, while the time lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    end = time.perf_counter() + seconds
    datasets = {case.trace: load_dataset(case.trace) for case in CASES.values()}
    for seed in range(max(case.num_runs for case in CASES.values())):
        for name, case in CASES.items():
            place = folder / f"{name}_{seed}.npz"
            if seed < case.num_runs and not place.exists() and time.perf_counter() < end:
                simulate(case, seed, datasets[case.trace], place)


def simulate(case: Case, seed: int, dataset: Dataset, place: Path) -> None:
    if case.own_lengths:
        order = np.random.default_rng((seed, 77)).permutation(len(dataset.rows))
        dataset = replace(dataset, rows=tuple(dataset.rows[i] for i in order))
    config = RunConfig(
        model="opt-13b",
        device="sim:a100-40gb",
        cost_model=case.cost_model,
        trace=case.trace,
        rate=case.rate,
        num_requests=NUM_REQUESTS,
        seed=seed,
    )
    plan = make_plan(config)
    record = load_backend(plan).make_engine(plan).run(trace_of(plan, dataset).arrivals())
    order = np.argsort(record.latencies.arrival, kind="stable")
    columns = {name: getattr(record.latencies, name)[order] for name in COLUMNS}
    np.savez(place, overloaded=is_overloaded(record), **columns)


def judge(folder: Path) -> None:
    print("| case | figure | runs | held | declined | upper / lower end | 95 % of runs | effective |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for name, case in CASES.items():
        if not case.title:
            continue
        files = [np.load(path) for path in sorted(folder.glob(f"{name}_*.npz"))]
        for column in COLUMNS:
            row_of(case.title, column, [(file[column], bool(file["overloaded"])) for file in files])
    for column in COLUMNS:
        row_of_pairs(folder, column)
    for title, draw in SYNTHETIC.items():
        draws = np.random.default_rng(13)
        row_of(title, "value", [(draw(draws), False) for _ in range(NUM_SYNTHETIC)])


def row_of(title: str, column: str, runs: list[Run]) -> None:
    """Print one row each for the mean and the 90th percentile."""
    for kind in KINDS if runs else ():
        statistic = Statistic(column, kind, 1.0)
        found = [uncertainty_of(statistic, *run) for run in runs]
        figures = [value_of(statistic, values) for values, _ in runs]
        truth = math.fsum(figures) / len(figures)
        answers = [item.interval for item in found if item.interval is not None]
        held = [low <= truth <= high for low, high in answers]
        span = median(high / low for low, high in answers)
        usual = np.divide(*np.percentile(figures, (97.5, 2.5)))
        effective = median(item.num_effective or 0.0 for item in found)
        cells = [title, f"{column} {kind}", f"{len(runs):,}", f"{np.mean(held):.1%}"]
        cells += [f"{1 - len(held) / len(runs):.1%}", f"{span:.3g}", f"{usual:.3g}", f"{effective:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def row_of_pairs(folder: Path, column: str) -> None:
    """Whether the intervals of the ratio of two runs of the same requests hold its expected value."""
    seeds = [seed for seed in range(200) if all((folder / f"{name}_{seed}.npz").exists() for name in PAIR)]
    runs = [np.stack([np.load(folder / f"{name}_{seed}.npz")[column] for name in PAIR]) for seed in seeds]
    runs = [values[:, np.isfinite(values).all(axis=0)] for values in runs]
    for kind in KINDS if runs else ():
        statistic = Statistic(column, kind, 1.0)
        logs = [
            math.log(value_of(statistic, second) / value_of(statistic, first)) for first, second in runs
        ]
        truth = math.fsum(logs) / len(logs)
        answers = [bounds for values in runs if (bounds := ratio_bounds(values, statistic.percent))]
        held = np.mean([low <= truth <= high for low, high in answers])
        span = math.exp(median(high - low for low, high in answers))
        usual = math.exp(np.subtract(*np.percentile(logs, (97.5, 2.5))))
        cells = ["Alpaca, 60 %, two cost models", f"{column} {kind}", f"{len(runs):,}", f"{held:.1%}"]
        cells += [f"{1 - len(answers) / len(runs):.1%}", f"{span:.3g}", f"{usual:.3g}", ""]
        print(f"| {' | '.join(cells)} |", flush=True)


def uncertainty_of(statistic: Statistic, values: NDArray[np.float64], overloaded: bool) -> Uncertainty:
    is_known = np.isfinite(values)
    obstacle = OVERLOADED if overloaded else None
    return uncertainty(statistic, Samples(values[is_known], is_known.astype(np.int64)), obstacle)


def value_of(statistic: Statistic, values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean() if statistic.percent is None else np.percentile(known, statistic.percent))


def median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def log_normal(coefficient: float) -> Callable[[np.random.Generator], NDArray[np.float64]]:
    """The exponential of an autoregressive process of variance 1."""

    def draw(draws: np.random.Generator) -> NDArray[np.float64]:
        noise = draws.normal(size=NUM_REQUESTS) * math.sqrt(1 - coefficient**2)
        noise[0] = draws.normal()
        for i in range(1, NUM_REQUESTS):
            noise[i] += coefficient * noise[i - 1]
        return np.exp(noise)

    return draw


def one_server(load: float) -> Callable[[np.random.Generator], NDArray[np.float64]]:
    """Times in a queue with one server (M/M/1), empty at first: long busy periods."""

    def draw(draws: np.random.Generator) -> NDArray[np.float64]:
        service, gaps = draws.exponential(load, NUM_REQUESTS), draws.exponential(1, NUM_REQUESTS)
        backlog = np.concatenate([[0.0], np.cumsum(service - gaps)[:-1]])
        times: NDArray[np.float64] = backlog - np.minimum.accumulate(backlog) + service
        return times

    return draw


SYNTHETIC = {
    "autoregressive, 0.9": log_normal(0.9),
    "autoregressive, 0.98": log_normal(0.98),
    "autoregressive, 0.99": log_normal(0.99),
    "one server, load 0.6": one_server(0.6),
    "one server, load 0.8": one_server(0.8),
    "one server, load 0.9": one_server(0.9),
}


def main() -> None:
    command, folder, *rest = sys.argv[1:]
    if command == "measure":
        measure(Path(folder), float(rest[0]) if rest else math.inf)
    else:
        judge(Path(folder))


if __name__ == "__main__":
    main()
