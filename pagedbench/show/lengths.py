"""Traces for people: which there are, their mean and percentile lengths, and small histograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.runs.numbers import counted, number

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from rich.table import Table

    from pagedbench.workload.dataset import Dataset, MeanLengths

BAR_WIDTH = 22


def list_table(datasets: Items[Dataset]) -> Table:
    """One row a data set."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("trace", "rows", "mean prompt", "mean output", "paper", "source"):
        is_figure = heading not in ("trace", "source")
        table.add_column(heading, justify="right" if is_figure else "left", no_wrap=heading == "trace")
    for dataset in datasets:
        prompts, outputs = _lengths(dataset)
        means = [f"{sum(lengths) / len(lengths):.2f}" for lengths in (prompts, outputs)]
        paper = _paper(dataset.paper_means)
        table.add_row(dataset.name, f"{len(dataset.rows):,}", *means, paper, dataset.source)
    return table


def dataset_rows(dataset: Dataset) -> list[tuple[str, str]]:
    """What the data set says about itself."""
    timed = all(row.arrival_time is not None for row in dataset.rows)
    rows = [
        ("Trace", f"{dataset.name}, {counted(len(dataset.rows), 'row')}"),
        ("Lengths", f"synthesized ({dataset.source})" if dataset.synthetic else dataset.source),
        ("Timestamps", "yes: --arrival trace replays them" if timed else "none"),
    ]
    sessions = {row.session for row in dataset.rows} - {None}
    if sessions:
        rows.append(("Sessions", f"{len(sessions):,}: every row is a turn, its prompt the new text alone"))
    if dataset.num_unreadable:
        rows.append(
            ("Unreadable", f"{counted(dataset.num_unreadable, 'record')} without a prompt and a reply")
        )
    return rows


def lengths_table(dataset: Dataset) -> Table:
    """Mean and percentiles of prompts and outputs, in tokens, beside the paper's means."""
    from rich import box
    from rich.table import Table

    from pagedbench.workload.histogram import summarize_lengths

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Tokens")
    for heading in ("mean", "paper's mean", "p50", "p90", "p99", "longest"):
        table.add_column(heading, justify="right")
    means = dataset.paper_means
    papers = (means.prompt, means.output) if means else (None, None)
    for label, lengths, paper in zip(("prompt", "output"), _lengths(dataset), papers, strict=True):
        summary = summarize_lengths(lengths)
        percentiles = [number(value) for value in (summary.p50, summary.p90, summary.p99)]
        printed = "-" if paper is None else f"{paper:.2f}"
        table.add_row(label, f"{summary.mean:.2f}", printed, *percentiles, f"{summary.longest:,}")
    return table


def histograms_table(dataset: Dataset, *, ascii_only: bool) -> Table:
    """Prompts and outputs side by side, in bins that double in width; bars in percent of all rows."""
    from rich import box
    from rich.table import Table

    from pagedbench.workload.histogram import length_histogram

    prompts, outputs = (length_histogram(lengths) for lengths in _lengths(dataset))
    shares: list[dict[int, float]] = []
    for histogram in (prompts, outputs):
        counts = zip(histogram.edges, histogram.counts, strict=False)  # the last edge only ends a bin
        shares.append({edge: 100 * count / len(dataset.rows) for edge, count in counts})
    largest = max(max(side.values()) for side in shares)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Tokens", justify="right", no_wrap=True)
    for heading in ("prompts", "outputs"):
        table.add_column(heading, width=BAR_WIDTH + 7, no_wrap=True)
    block = "#" if ascii_only else "█"
    edge, last = min(min(side) for side in shares), max(max(side) for side in shares)
    while edge <= last:
        bars = [_bar(side.get(edge, 0.0), largest, block) for side in shares]
        table.add_row(f"{edge:,}-{2 * edge - 1:,}" if edge > 1 else str(edge), *bars)
        edge = max(2 * edge, 1)
    return table


def _bar(share: float, largest: float, block: str) -> str:
    return f"{block * round(BAR_WIDTH * share / largest)} {share:.1f}%"


def _lengths(dataset: Dataset) -> tuple[list[int], list[int]]:
    return [row.prompt_len for row in dataset.rows], [row.output_len for row in dataset.rows]


def _paper(means: MeanLengths | None) -> str:
    return "-" if means is None else f"{means.prompt} / {means.output}"
