"""The result of one run on the terminal: latencies, throughput, the KV pool, and whether to believe it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.runs.numbers import MINIMUM_FOR_P99, counted, number
from pagedbench.show.bar import kv_bar, kv_legend
from pagedbench.show.console import is_ascii, print_whole
from pagedbench.show.header import rows_table
from pagedbench.show.remarks import (
    OVERLOADED,
    bottleneck_sentences,
    certainty_sentence,
    pace_sentences,
    sharing_sentences,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from pagedbench.runs.result import Result

LATENCIES = (
    ("Time to first token", "ttft", "ms"),
    ("Time per output token", "tpot", "ms"),
    ("Inter-token latency", "itl", "ms"),
    ("End-to-end latency", "e2el", "s"),
    ("Normalized latency", "normalized_latency", "s"),
    ("Time in the queue", "queue_time", "ms"),
)
"""Label, and first and last part of the columns' names."""

BAR_WIDTH = 80
STATISTICS = ("mean", "p50", "p90", "p99", "max")


def print_result(console: Console, result: Result, folder: Path) -> None:
    """Everything a person wants to know of a finished run, the doubts first."""
    from pagedbench.metrics.steady import obstacle_to_steady
    from pagedbench.metrics.validity import validity

    values = result.values
    console.print()
    if result.load is not None and result.load.is_busy:
        console.print(result.load.sentence, style="bold red")
    if values["overloaded"]:
        console.print(OVERLOADED, style="bold red")
    if result.status != "complete":
        console.print(_cut_short(result), style="bold yellow")
    console.print(latency_table(values))
    console.print(certainty_sentence(result.record))
    console.print("KV pool, averaged over time", style="bold")
    console.print(kv_bar(values, min(console.width, BAR_WIDTH), ascii_only=is_ascii(console)))
    print_whole(console, kv_legend(values, ascii_only=is_ascii(console)))
    console.print()
    reasons, obstacle = validity(result.record), obstacle_to_steady(result.record)
    console.print(rows_table(outcome_rows(values, reasons, obstacle, is_busy=result.is_busy)))
    for sentence in sharing_sentences(values):
        console.print(sentence)
    for sentence in bottleneck_sentences([result.record]):
        console.print(sentence)
    for sentence in pace_sentences([("during this run,", result.paces)]):
        console.print(sentence)
    console.print(f"Saved to {folder}", soft_wrap=True)


def latency_table(values: Mapping[str, object]) -> Table:
    """One row a latency; a p99 of few requests is dimmed."""
    from rich import box
    from rich.table import Table

    completed = values["completed"]
    is_firm = isinstance(completed, int) and completed >= MINIMUM_FOR_P99
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("Latency", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for statistic in STATISTICS:
        style = "dim" if statistic == "p99" and not is_firm else None
        table.add_column(statistic, justify="right", no_wrap=True, min_width=7, style=style)
    for label, name, unit in LATENCIES:
        figures = [values.get(f"{name}_{statistic}_{unit}") for statistic in STATISTICS]
        shown = ["" if figure is None else number(figure) for figure in figures]
        table.add_row(label, "s/token" if name == "normalized_latency" else unit, *shown)
    return table


def outcome_rows(
    values: Mapping[str, object], reasons: tuple[str, ...], obstacle: str | None, *, is_busy: bool = False
) -> list[tuple[str, str]]:
    """Throughput, batch, preemptions and verdict in words.

    `reasons`: why the run is not valid; `obstacle`: why it has no steady part, if it has none.
    """
    verdict = "yes, but not for gates: this machine was busy" if is_busy else "yes"
    shown = {name: number(value) for name, value in values.items()}
    rows = [
        (
            "Throughput",
            f"{shown['request_throughput']} requests/s, {shown['output_throughput']} output tokens/s, "
            f"{shown['total_token_throughput']} tokens/s with prompts: the whole run, with drain",
        ),
        (
            "Steady",
            f"{shown['steady_request_throughput']} requests/s, {shown['steady_output_throughput']} output "
            "tokens/s: the second half of the arrivals' time, without start and drain"
            if obstacle is None
            else f"no steady part: {obstacle}",
        ),
        (
            "Requests",
            f"{shown['completed']} completed, {shown['failed']} failed, in {shown['duration_s']} s",
        ),
        (
            "Batch",
            f"{shown['running_mean']} requests in an iteration (mean over {shown['num_steps']} "
            f"iterations), {shown['running_max']} at most; {shown['waiting_max']} waiting at most",
        ),
        (
            "Preemptions",
            f"{shown['preemptions_recompute']} by recomputing, {shown['preemptions_swap']} by swapping",
        ),
        ("Valid", f"no: {'; '.join(reasons)}" if reasons else verdict),
    ]
    attainment = values["slo_attainment"]
    if isinstance(attainment, float):
        goodput = f"{shown['goodput']} requests/s, {100 * attainment:.1f}% of requests meet the SLO"
        rows.insert(2, ("Goodput", goodput))
    return rows


def _cut_short(result: Result) -> str:
    done, asked = len(result.record.requests), counted(len(result.trace.requests), "request")
    return f"{result.status.capitalize()}: {done:,} of {asked} had ended."
