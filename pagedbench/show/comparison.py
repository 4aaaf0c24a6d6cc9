"""Several runs side by side: one table with the best figures marked and ratios to `paged`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.config import DEFAULT_SYSTEM
from pagedbench.metrics.formulas import METRICS
from pagedbench.option_values import LISTS
from pagedbench.runs.numbers import MINIMUM_FOR_P99, ratio
from pagedbench.runs.result import summary_row
from pagedbench.show.bar import kv_bar, kv_legend
from pagedbench.show.console import is_ascii, say
from pagedbench.show.identity import identity, identity_columns, varying
from pagedbench.show.remarks import bandwidth_sentences, bottleneck_sentences, sharing_sentences
from pagedbench.show.server_side import client_sentences
from pagedbench.show.spikes import few_arrivals, hits_of, recovery_sentences, spike_table, spike_words
from pagedbench.show.table import Cell, Column, Table, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from rich.console import Console

    from pagedbench.runs.result import Result

REFERENCE = DEFAULT_SYSTEM
BAR_WIDTH = 80

COLUMNS = (
    Column("requests/s", name="request_throughput"),
    Column("output tokens/s", name="output_throughput", priority=2),
    Column("mean s/token", name="normalized_latency_mean_s"),
    Column("p90 s/token", name="normalized_latency_p90_s", priority=2),
    Column("TTFT p50", "ms", name="ttft_p50_ms", priority=1),
    Column("TTFT p99", "ms", name="ttft_p99_ms", priority=3),
    Column("TPOT p50", "ms", name="tpot_p50_ms", priority=1),
    Column("batch size", name="running_mean", priority=3),
    Column("tokens % of KV", name="kv_token_states_pct", priority=3),
)
"""Columns of figures, by their names in summary.csv."""

GOODPUT_COLUMN = Column("goodput requests/s", name="goodput")
WITHOUT_RATIO = ("running_mean", "kv_token_states_pct")

LEGEND = (
    "requests/s, tokens/s: over the whole run; s/token: normalized latency; batch size: mean over "
    "iterations; % of KV: mean over time"
)


def print_comparison(console: Console, results: Items[Result]) -> None:
    """The table, the KV pools as bars, and remarks; runs of one workload stand together."""
    results = by_workload(results)
    print_table(console, comparison_table(results))
    say(console, f"{LEGEND}; *: best of its workload{_ratio_note(results)}.", "dim")
    own = [result for result in results if result.server is None]
    if own:
        console.print("KV pool, averaged over time", style="bold")
        _print_bars(console, own)
        print_table(console, kv_legend(None, ascii_only=is_ascii(console)))
    _print_spikes(console, results)
    for remark in remarks(results):
        say(console, remark)


def comparison_table(results: Items[Result]) -> Table:
    """One row per run. Each figure has its ratio to that of `paged` on the same workload."""
    rows = [summary_row(result) for result in results]
    names = varying(rows)
    columns = (*COLUMNS, GOODPUT_COLUMN) if any(result.slo for result in results) else COLUMNS
    cells = []
    for result, row in zip(results, rows, strict=True):
        rivals = same_workload(result, results)
        figures = [_cell(result, column.name, rivals) for column in columns]
        cells.append([*identity(row, names), *figures, preemptions(result), result.state])
    return Table(
        (
            *identity_columns(names),
            *columns,
            Column("preempted", priority=3),
            Column("state", is_text=True),
        ),
        cells,
    )


def labels(results: Items[Result]) -> list[str]:
    """A label for every run: its system, and the options in which the runs differ."""
    rows = [summary_row(result) for result in results]
    names = varying(rows)
    return [" ".join(identity(row, names)) for row in rows]


def workload(result: Result) -> tuple[object, ...]:
    """What runs must have in common to be compared: all options except the system, its pages and caching;
    if there are servers, of which no more is known, only the requests.
    """
    own = ("system", "prefix_caching", "page_size", "commit_ahead", "kept_pages")
    return tuple(getattr(result.plan.config, name) for name in LISTS if name not in own)


def by_workload(results: Items[Result]) -> list[Result]:
    """The runs in the order of their workloads' first appearance, and within each in that of systems."""
    order = list(dict.fromkeys(workload(result) for result in results))
    return sorted(results, key=lambda result: order.index(workload(result)))


def same_workload(result: Result, results: Items[Result]) -> list[Result]:
    """The runs that differ from `result` only in the system, including `result` itself."""
    return [other for other in results if workload(other) == workload(result)]


def is_best(result: Result, metric: str, rivals: Items[Result]) -> bool:
    """Is no complete run among the rivals better, and at least one worse?"""
    direction = next(item.better for item in METRICS if item.name == metric)
    whole = [rival.values[metric] for rival in rivals if rival.status == "complete"]
    figures = [value for value in whole if isinstance(value, int | float)]
    own = result.values[metric]
    is_judged = direction != "-" and result.status == "complete"
    if not is_judged or own not in figures or min(figures) == max(figures):
        return False
    return own == (max(figures) if direction == "higher" else min(figures))


def preemptions(result: Result) -> int | None:
    """The number of preemptions, by recompute or by swap; None if it is unknown."""
    if result.server is not None:
        return None
    counts = [result.values[f"preemptions_{kind}"] for kind in ("recompute", "swap")]
    return sum(count for count in counts if isinstance(count, int))


def remarks(results: Items[Result]) -> list[str]:
    """Sentences that keep a reader from wrong conclusions."""
    named = list(zip(labels(results), results, strict=True))
    sentences = [
        f"{label}: {result.load.sentence}" for label, result in named if result.load and result.is_busy
    ]
    for label, result in named:
        if result.server is not None and (reasons := result.record.invalid_because):
            sentences.append(f"{label} is not valid: {'; '.join(reasons)}.")
    overloaded = [result.plan.system.name for result in results if result.values["overloaded"]]
    if overloaded:
        names = ", ".join(dict.fromkeys(overloaded))
        sentences.append(f"Overloaded: {names}. Their latencies grow with the length of the run.")
    for label, result in named:
        if result.record.crash:
            sentences.append(f"{label} crashed with {result.record.crash}.")
        shared = " ".join(sharing_sentences(result.values))
        if shared:
            sentences.append(f"{label}: {shared[0].lower()}{shared[1:]}")
        if result.server is not None:
            sentences += [f"{label}: {text}" for text in client_sentences(result)]
    sentences += bottleneck_sentences([result.record for result in results])
    return sentences + bandwidth_sentences(result.bandwidths for result in results)


def _print_spikes(console: Console, results: Items[Result]) -> None:
    """One row per run whose trace has a spike, and which system of each workload recovers first."""
    named = labels(results)
    hits = hits_of(results, named)
    if not hits:
        return
    spikes = dict.fromkeys(spike_words(result.trace.spike) for result in results if result.trace.spike)
    print_table(console, spike_table(hits), f"Spike: {'; '.join(spikes)}")
    for group in dict.fromkeys(tuple(map(id, same_workload(result, results))) for result in results):
        members = [(item, label) for item, label in zip(results, named, strict=True) if id(item) in group]
        for sentence in recovery_sentences(hits_of(*zip(*members, strict=True))):
            say(console, sentence)
    for sentence in few_arrivals(results):
        say(console, sentence)


def _print_bars(console: Console, results: Items[Result]) -> None:
    """The pools of all runs on one scale: every bar is one whole pool."""
    names = labels(results)
    label_width = max(map(len, names))
    width = min(BAR_WIDTH, max(console.width - label_width - 1, 10))
    for label, result in zip(names, results, strict=True):
        console.print(f"{label:<{label_width}} ", end="", markup=False)
        console.print(kv_bar(result.values, width, ascii_only=is_ascii(console)))


def _cell(result: Result, metric: str, rivals: Items[Result]) -> Cell:
    """The figure with its mark and its ratio."""
    value, completed = result.values[metric], result.values["completed"]
    is_thin = "_p99_" in metric and isinstance(completed, int) and completed < MINIMUM_FOR_P99
    best = is_best(result, metric, rivals)
    reference = next((rival for rival in rivals if _is_reference(rival)), None)
    has_ratio = metric not in WITHOUT_RATIO and len(rivals) > 1 and result.status == "complete"
    note = ratio(value, reference.values[metric]) if reference is not None and has_ratio else ""
    return Cell(value, note, "bold green" if best else "dim" if is_thin else "", is_best=best)


def _ratio_note(results: Items[Result]) -> str:
    references = [result for result in results if _is_reference(result)]
    groups = [same_workload(result, results) for result in references]
    if not any(len(group) > 1 for group in groups):
        return ""
    is_first = any(sum(map(_is_reference, group)) > 1 for group in groups)
    return f"; x: ratio to {f'the first {REFERENCE} of the workload' if is_first else REFERENCE}"


def _is_reference(result: Result) -> bool:
    return result.plan.system.name == REFERENCE and result.status == "complete"
