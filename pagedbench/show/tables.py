"""The result of one run on the terminal: latencies, throughput, the KV pool, and validity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.metrics.steady import FULL_SHARE, obstacle_to_full_batch, obstacle_to_steady
from pagedbench.runs.numbers import MINIMUM_FOR_P99, counted, number, scale
from pagedbench.show.bar import kv_bar, kv_legend
from pagedbench.show.console import is_ascii, say
from pagedbench.show.predictions import prediction_sentences, prediction_table
from pagedbench.show.remarks import (
    OVERLOADED,
    bandwidth_sentences,
    bottleneck_sentences,
    certainty_sentence,
    sharing_sentences,
)
from pagedbench.show.server_side import client_sentences, server_rows
from pagedbench.show.spikes import spike_sentences
from pagedbench.show.table import Column, Table, facts, print_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console

    from pagedbench.runs.result import Result

LATENCIES = (
    ("time to first token", "ttft", "ms"),
    ("time per output token", "tpot", "ms"),
    ("inter-token latency", "itl", "ms"),
    ("end-to-end latency", "e2el", "s"),
    ("normalized latency", "normalized_latency", "s"),
    ("queueing time", "queue_time", "ms"),
)
"""Label, and the first and last part of the columns' names."""

OF_ENGINE = ("Batch", "Preemptions")
"""Rows about iterations, which a client of a server cannot see."""

BAR_WIDTH = 80
STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")


def print_result(console: Console, result: Result, folder: Path) -> None:
    """Print everything about a finished run, caveats first."""
    values = result.values
    if result.load is not None and result.is_busy:
        say(console, result.load.sentence, "bold red")
    if values["overloaded"]:
        say(console, OVERLOADED, "bold red")
    if result.status != "complete":
        say(console, _cut_short(result), "bold yellow")
    print_table(console, latency_table(values))
    say(console, certainty_sentence(result.record))
    if result.prediction is not None:
        print_table(console, prediction_table(result.prediction, values))
        for sentence in prediction_sentences(result.prediction):
            say(console, sentence)
    if result.server is None:
        console.print("KV pool, averaged over time", style="bold")
        console.print(kv_bar(values, min(console.width, BAR_WIDTH), ascii_only=is_ascii(console)))
        print_table(console, kv_legend(values, ascii_only=is_ascii(console)))
    console.print()
    reasons, obstacle = result.record.invalid_because, obstacle_to_steady(result.record)
    rows = outcome_rows(values, reasons, obstacle, is_busy=result.is_busy)
    if result.server is None:
        rows.insert(2, ("Window", _window(values, obstacle_to_full_batch(result.record))))
    else:
        rows = [row for row in rows if row[0] not in OF_ENGINE]
        rows[-1:-1] = server_rows(result)
    print_table(console, facts(rows))
    sentences = (
        client_sentences(result)
        + spike_sentences(result)
        + sharing_sentences(values)
        + bottleneck_sentences([result.record])
    )
    for sentence in sentences + bandwidth_sentences([result.bandwidths]):
        say(console, sentence)
    say(console, f"Saved to {folder}")


def latency_table(values: Mapping[str, object]) -> Table:
    """One row per latency; a p99 of few requests is dimmed. Large times are in a larger unit."""
    completed = values["completed"]
    is_firm = isinstance(completed, int) and completed >= MINIMUM_FOR_P99
    columns = [Column("latency", is_key=True, is_text=True), Column("unit", is_text=True)]
    columns += [Column(name, is_dim=name == "p99" and not is_firm) for name in STATISTICS]
    rows = []
    for label, name, unit in LATENCIES:
        figures = [values.get(f"{name}_{statistic}_{unit}") for statistic in STATISTICS]
        known = [figure for figure in figures if isinstance(figure, int | float)]
        factor, shown_unit = scale(max(known, default=0.0), unit)
        if name == "normalized_latency":
            factor, shown_unit = 1.0, "s/token"
        cells = (figure * factor if isinstance(figure, int | float) else "" for figure in figures)
        rows.append([label, shown_unit, *cells])
    return Table(tuple(columns), rows)


def outcome_rows(
    values: Mapping[str, object], reasons: tuple[str, ...], obstacle: str | None, *, is_busy: bool = False
) -> list[tuple[str, str]]:
    """Throughput, batch, preemptions and validity in words.

    `reasons`: why the run is not valid; `obstacle`: why it has no steady part, or None if it has one.
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
            f"mean batch size {shown['running_mean']} (max {shown['running_max']}) over "
            f"{shown['num_steps']} iterations; peak queue length {shown['waiting_max']}",
        ),
        (
            "Preemptions",
            f"{shown['preemptions_recompute']} recompute, {shown['preemptions_swap']} swap",
        ),
        ("Valid", f"no: {'; '.join(reasons)}" if reasons else verdict),
    ]
    attainment = values["slo_attainment"]
    if isinstance(attainment, float):
        goodput = f"{shown['goodput']} requests/s, {100 * attainment:.1f}% of requests meet the SLO"
        rows.insert(2, ("Goodput", goodput))
    return rows


def _window(values: Mapping[str, object], obstacle: str | None) -> str:
    """Throughput in the steady-state window; `obstacle`: why there is none."""
    if obstacle is not None:
        return f"no steady-state window: {obstacle}"
    names = ("request_throughput", "output_throughput", "duration_s", "start_s")
    requests, tokens, duration, start = (number(values[f"window_{name}"]) for name in names)
    return (
        f"{requests} requests/s, {tokens} output tokens/s in the {duration} s from {start} s on: the "
        f"longest time with at least {100 * FULL_SHARE:g} % of the most requests running"
    )


def _cut_short(result: Result) -> str:
    done, asked = len(result.record.requests), counted(len(result.trace.requests), "request")
    return f"{result.status.capitalize()}: {done:,} of {asked} had ended."
