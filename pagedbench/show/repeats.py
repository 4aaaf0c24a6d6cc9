"""Repeated runs together: the mean of each figure over them, and its 95 % t-interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.config import plain
from pagedbench.metrics.formulas import METRICS
from pagedbench.metrics.statistics import Effect
from pagedbench.option_values import LISTS
from pagedbench.runs.numbers import counted, number
from pagedbench.show.console import say
from pagedbench.show.identity import OPTIONS
from pagedbench.show.table import Column, Table, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from rich.console import Console

    from pagedbench.runs.result import Result

FIGURES = (
    "request_throughput",
    "output_throughput",
    "ttft_mean_ms",
    "ttft_p90_ms",
    "tpot_mean_ms",
    "tpot_p90_ms",
    "normalized_latency_mean_s",
    "normalized_latency_p90_s",
)

LEGEND = (
    "95 % interval: Student's t over the runs, for the expected value over runs with other seeds (in wall "
    "time: over repeats). Trust this one; the interval of a single run in summary.json is a substitute."
)


def print_repeats(console: Console, results: Items[Result]) -> None:
    """A table for each group of runs with the same options; simulated runs may differ in the seed."""
    names = [name for name in LISTS if name != "seed" or not results[0].plan.config.is_simulated]
    options = [{name: plain(getattr(run.plan.config, name)) for name in names} for run in results]
    varying = [name for name in names if len({option[name] for option in options}) > 1]
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result, option in zip(results, options, strict=True):
        groups.setdefault(tuple(option[name] for name in varying), []).append(result)
    for values, group in groups.items():
        if len(group) < 2:  # interrupted
            continue
        headings = (OPTIONS[name].heading if name in OPTIONS else "" for name in varying)
        labels = [" ".join(pair).strip() for pair in zip(headings, values, strict=True)]
        seeds = list(dict.fromkeys(result.plan.config.seed for result in group))
        seed = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
        say(console, ", ".join([*labels, counted(len(group), "run"), seed]), "bold")
        num_overloaded = sum(bool(result.values["overloaded"]) for result in group)
        if num_overloaded:
            say(console, f"{num_overloaded} overloaded: their latencies grow with the length of the run.")
        print_table(console, _table(group))
    say(console, LEGEND, "dim")


def _table(results: Items[Result]) -> Table:
    columns = (
        Column("figure", is_key=True, is_text=True),
        *map(Column, ("mean", "95 % interval", "lowest", "highest")),
    )
    rows: list[list[object]] = []
    for metric in (metric for metric in METRICS if metric.name in FIGURES):
        known = [result.values[metric.name] for result in results]
        values = tuple(float(value) for value in known if value is not None)
        if len(values) < len(known):
            continue
        mean = Effect(values, is_ratio=False)
        low, high = mean.interval()
        ends = f"{number(low)} to {number(high)}"
        rows.append([metric.name, mean.mean, ends, min(values), max(values)])
    return Table(columns, rows)
