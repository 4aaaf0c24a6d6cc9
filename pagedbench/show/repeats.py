"""What repeated runs have in common: the mean of each figure over them, and its 95 % t-interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.config import LISTS
from pagedbench.metrics.statistics import Effect
from pagedbench.runs.numbers import counted, number
from pagedbench.show.comparison import HEADINGS, option
from pagedbench.show.console import print_whole

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from rich.console import Console
    from rich.table import Table

    from pagedbench.runs.result import Result

METRICS = (
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
    "95 % interval: Student's t over the runs, of the expected value over runs with other seeds (in wall "
    "time: over repeats). It is the one to trust; that of one run in summary.json is a substitute."
)


def print_repeats(console: Console, results: Items[Result]) -> None:
    """A table for each group of runs that differ in nothing; of simulated ones, in nothing but the seed."""
    names = [name for name in LISTS if name != "seed" or not results[0].plan.config.is_simulated]
    varying = [name for name in names if len({option(result, name) for result in results}) > 1]
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(option(result, name) for name in varying), []).append(result)
    for values, group in groups.items():
        if len(group) < 2:  # interrupted
            continue
        labels = [f"{HEADINGS.get(name, '')} {value}" for name, value in zip(varying, values, strict=True)]
        seeds = list(dict.fromkeys(result.plan.config.seed for result in group))
        seed = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
        console.print(", ".join([*map(str.strip, labels), counted(len(group), "run"), seed]), style="bold")
        num_overloaded = sum(bool(result.values["overloaded"]) for result in group)
        if num_overloaded:
            console.print(f"{num_overloaded} overloaded: their latencies grow with the length of the run.")
        print_whole(console, _table(group))
    console.print(LEGEND, style="dim")


def _table(results: Items[Result]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("figure", no_wrap=True)
    for heading in ("mean", "95 % interval", "lowest", "highest"):
        table.add_column(heading, justify="right", no_wrap=True)
    for metric in METRICS:
        known = [result.values[metric] for result in results]
        values = tuple(float(value) for value in known if value is not None)
        if len(values) < len(known):
            continue
        mean = Effect(values, is_ratio=False)
        low, high = mean.interval()
        ends = f"{number(low)} to {number(high)}"
        table.add_row(metric, number(mean.mean), ends, number(min(values)), number(max(values)))
    return table
