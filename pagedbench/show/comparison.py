"""Several runs side by side: one table, the best figures marked, ratios to `paged` below each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.config import DEFAULT_SYSTEM, LISTS, plain
from pagedbench.runs.numbers import MINIMUM_FOR_P99, number, ratio
from pagedbench.show.bar import kv_bar, kv_legend
from pagedbench.show.console import is_ascii, print_whole
from pagedbench.show.remarks import bottleneck_sentences, pace_sentences, sharing_sentences

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items

    from rich.console import Console
    from rich.table import Table

    from pagedbench.runs.result import Result

REFERENCE = DEFAULT_SYSTEM
BAR_WIDTH = 80

HEADINGS = {
    "model": "model",
    "device": "device",
    "tensor_parallel_size": "ranks",
    "kv_slots": "KV slots",
    "trace": "trace",
    "rate": "rate",
    "seed": "seed",
    "n": "n",
    "beam_width": "beams",
    "block_size": "block",
    "max_num_seqs": "max\nseqs",
    "max_num_batched_tokens": "max\ntokens",
    "preemption": "preempt",
    "prefix_caching": "prefix\ncache",
}
"""Options besides the system that may differ between the runs of one table."""


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of every run."""

    metric: str
    heading: str
    has_ratio: bool = True


COLUMNS = (
    Column("request_throughput", "req/s"),
    Column("output_throughput", "output\ntok/s"),
    Column("normalized_latency_mean_s", "mean\ns/tok"),
    Column("normalized_latency_p90_s", "p90\ns/tok"),
    Column("ttft_p50_ms", "TTFT\np50 ms"),
    Column("ttft_p99_ms", "TTFT\np99 ms"),
    Column("tpot_p50_ms", "TPOT\np50 ms"),
    Column("running_mean", "running\nmean"),
    Column("kv_token_states_pct", "tokens\n% of KV", has_ratio=False),
)

GOODPUT_COLUMN = Column("goodput", "good\nreq/s")


def columns_of(results: Items[Result]) -> tuple[Column, ...]:
    """The figures to show: goodput too, where bounds were asked for."""
    return (*COLUMNS, GOODPUT_COLUMN) if any(result.slo for result in results) else COLUMNS


def print_comparison(console: Console, results: Items[Result]) -> None:
    """The table, the KV pools on one scale, and what to mind; runs of one workload stand together."""
    results = by_workload(results)
    print_whole(console, comparison_table(results))
    console.print(
        "req/s, tok/s: the whole run, with drain; s/tok: normalized latency; running: mean over "
        f"iterations; % of KV: mean over time; *: best of its workload{_ratio_note(results)}",
        style="dim",
    )
    console.print("KV pool, averaged over time", style="bold")
    console.print(bars_table(results, console.width, ascii_only=is_ascii(console)))
    print_whole(console, kv_legend(None, ascii_only=is_ascii(console)))
    for remark in remarks(results):
        console.print(remark)


def comparison_table(results: Items[Result]) -> Table:
    """One row a run: its figures, and below them their ratios to paged's on the same workload."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    varying = varying_options(results)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("system", no_wrap=True)
    for name in varying:
        table.add_column(HEADINGS[name], justify="right")
    columns = columns_of(results)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    table.add_column("pre-\nempted", justify="right", no_wrap=True)
    table.add_column(" state", no_wrap=True)
    for result in results:
        rivals = same_workload(result, results)
        cells = [Text.assemble(*_cell(result, column, rivals)) for column in columns]
        identity = [option(result, name) for name in varying]
        table.add_row(result.plan.system.name, *identity, *cells, preemptions(result), state(result, ",\n"))
    return table


def bars_table(results: Items[Result], width: int, *, ascii_only: bool) -> Table:
    """The pools of all runs, every bar one whole pool, within `width` characters with their labels."""
    from rich.table import Table

    varying = varying_options(results)
    labels = [_label(result, varying) for result in results]
    bar_width = min(BAR_WIDTH, max(width - max(map(len, labels)) - 1, 10))
    grid = Table.grid(padding=(0, 1))
    for label, result in zip(labels, results, strict=True):
        grid.add_row(label, kv_bar(result.values, bar_width, ascii_only=ascii_only))
    return grid


def _label(result: Result, varying: Items[str]) -> str:
    """The run's name among the others: its system, and what else is its own."""
    return " ".join([result.plan.system.name, *(option(result, name) for name in varying)])


def varying_options(results: Items[Result]) -> list[str]:
    """The list-valued options in which the runs of a system differ."""
    systems = {result.plan.system.name for result in results}
    names = [
        name
        for name in HEADINGS
        if len({(result.plan.system.name, option(result, name)) for result in results}) > len(systems)
    ]
    if is_one_pool((result.plan.kv_slots, result.plan.config.block_size) for result in results):
        names = [name for name in names if name != "kv_slots"]
    return names


def is_one_pool(pools: Iterable[tuple[int, int]]) -> bool:
    """Are these the same slots, floored to whole blocks? `pools`: slots, and tokens a block."""
    slots, block_sizes = zip(*pools, strict=True)
    return bool(max(slots) - min(slots) < max(block_sizes))


def option(result: Result, name: str) -> str:
    """The value of an option, for people."""
    value = result.trace.name if name == "trace" else getattr(result.plan.config, name)
    return f"{value:,}" if name == "kv_slots" else plain(value)


def workload(result: Result) -> tuple[object, ...]:
    """What runs must have in common to be compared: all but the system, and its cache of prefixes."""
    own = ("system", "prefix_caching")
    return tuple(getattr(result.plan.config, name) for name in LISTS if name not in own)


def by_workload(results: Items[Result]) -> list[Result]:
    """The runs in the order of their workloads' first appearance, and of the systems within."""
    order = list(dict.fromkeys(workload(result) for result in results))
    return sorted(results, key=lambda result: order.index(workload(result)))


def same_workload(result: Result, results: Items[Result]) -> list[Result]:
    """The runs that differ from `result` by their system alone, itself included."""
    return [other for other in results if workload(other) == workload(result)]


def is_best(result: Result, metric: str, rivals: Items[Result]) -> bool:
    """No rival that was served to its end is better, and one at least is worse."""
    from pagedbench.metrics.formulas import METRICS

    direction = next(item.better for item in METRICS if item.name == metric)
    whole = [rival.values[metric] for rival in rivals if rival.status == "complete"]
    figures = [value for value in whole if isinstance(value, int | float)]
    own = result.values[metric]
    is_judged = direction != "-" and result.status == "complete"
    if not is_judged or own not in figures or min(figures) == max(figures):
        return False
    return own == (max(figures) if direction == "higher" else min(figures))


def preemptions(result: Result) -> str:
    """Of either kind."""
    counts = [result.values[f"preemptions_{kind}"] for kind in ("recompute", "swap")]
    return number(sum(count for count in counts if isinstance(count, int)))


def state(result: Result, separator: str = ", ") -> str:
    """The run's verdicts in one word or two."""
    if result.status != "complete":
        return result.status
    verdict = "invalid" if not result.values["valid"] else "busy" if result.is_busy else "valid"
    return f"overloaded{separator}{verdict}" if result.values["overloaded"] else verdict


def remarks(results: Items[Result]) -> list[str]:
    """Sentences that keep a reader from the wrong conclusion."""
    varying = varying_options(results)
    sentences = [
        f"{_label(result, varying)}: {result.load.sentence}"
        for result in results
        if result.load is not None and result.load.is_busy
    ]
    overloaded = [result.plan.system.name for result in results if result.values["overloaded"]]
    if overloaded:
        names = ", ".join(dict.fromkeys(overloaded))
        sentences.append(f"Overloaded: {names}. Their latencies grow with the length of the run.")
    for result in results:
        if result.record.crash:
            sentences.append(f"{_label(result, varying)} crashed with {result.record.crash}.")
        shared = " ".join(sharing_sentences(result.values))
        if shared:
            sentences.append(f"{_label(result, varying)}: {shared[0].lower()}{shared[1:]}")
    sentences += bottleneck_sentences([result.record for result in results])
    return sentences + pace_sentences((_label(result, varying), result.paces) for result in results)


def _cell(result: Result, column: Column, rivals: Items[Result]) -> list[tuple[str, str]]:
    """The figure, its mark, and its ratio, each with its style."""
    value = result.values[column.metric]
    completed = result.values["completed"]
    is_thin = "_p99_" in column.metric and isinstance(completed, int) and completed < MINIMUM_FOR_P99
    best = is_best(result, column.metric, rivals)
    figure = (f"{number(value)}{'*' if best else ' '}", "bold green" if best else "dim" if is_thin else "")
    reference = next((rival for rival in rivals if _is_reference(rival)), None)
    has_ratio = column.has_ratio and len(rivals) > 1 and result.status == "complete"
    if reference is None or not has_ratio:
        return [figure]
    return [figure, (f"\n{ratio(value, reference.values[column.metric])} ", "dim")]


def _ratio_note(results: Items[Result]) -> str:
    references = [result for result in results if _is_reference(result)]
    groups = [same_workload(result, results) for result in references]
    if not any(len(group) > 1 for group in groups):
        return ""
    is_first = any(sum(map(_is_reference, group)) > 1 for group in groups)
    return f"; x: ratio to {f'the first {REFERENCE} of the workload' if is_first else REFERENCE}"


def _is_reference(result: Result) -> bool:
    return result.plan.system.name == REFERENCE and result.status == "complete"
