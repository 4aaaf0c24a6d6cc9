"""Traces for people: which there are, their mean and percentile lengths, and small histograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.runs.numbers import counted
from pagedbench.show.table import Column, Table
from pagedbench.tools.trace.histogram import length_histogram, summarize_lengths

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.workload.dataset import Dataset, MeanLengths

BAR_WIDTH = 22


def list_table(datasets: Items[Dataset]) -> Table:
    """One row a data set."""
    columns = (
        Column("trace", is_key=True, is_text=True),
        *map(Column, ("rows", "mean prompt", "mean output", "paper")),
        Column("source", is_text=True, wraps=True),
    )
    rows = []
    for dataset in datasets:
        means = [f"{sum(lengths) / len(lengths):.2f}" for lengths in _lengths(dataset)]
        paper = _paper(dataset.paper_means)
        rows.append((dataset.name, len(dataset.rows), *means, paper, dataset.source))
    return Table(columns, rows)


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
        is_whole = all(row.has_whole_prompt for row in dataset.rows if row.session is not None)
        prompt = "its prompt holds the turns before" if is_whole else "its prompt the new text alone"
        rows.append(("Sessions", f"{len(sessions):,}: every row is a turn, {prompt}"))
    if dataset.num_unreadable:
        rows.append(
            ("Unreadable", f"{counted(dataset.num_unreadable, 'record')} that lack a prompt or a reply")
        )
    return rows


def lengths_table(dataset: Dataset) -> Table:
    """Mean and percentiles of prompts and outputs, in tokens, and the paper's means."""
    columns = (
        Column("tokens", is_key=True, is_text=True),
        *map(Column, ("mean", "paper's mean", "p50", "p90", "p99", "longest")),
    )
    means, rows = dataset.paper_means, []
    papers = (means.prompt, means.output) if means else (None, None)
    for label, lengths, paper in zip(("prompt", "output"), _lengths(dataset), papers, strict=True):
        found = summarize_lengths(lengths)
        printed = "-" if paper is None else f"{paper:.2f}"
        rows.append((label, f"{found.mean:.2f}", printed, found.p50, found.p90, found.p99, found.longest))
    return Table(columns, rows)


def histograms_table(dataset: Dataset, *, ascii_only: bool) -> Table:
    """Prompts and outputs side by side, in bins that double in width; bars in percent of all rows."""
    shares: list[dict[int, float]] = []
    for histogram in map(length_histogram, _lengths(dataset)):
        counts = zip(histogram.edges, histogram.counts, strict=False)  # the last edge only ends a bin
        shares.append({edge: 100 * count / len(dataset.rows) for edge, count in counts})
    largest = max(max(side.values()) for side in shares)
    block = "#" if ascii_only else "█"
    edge, last = min(min(side) for side in shares), max(max(side) for side in shares)
    rows = []
    while edge <= last:
        bars = [_bar(side.get(edge, 0.0), largest, block) for side in shares]
        rows.append((f"{edge:,}-{2 * edge - 1:,}" if edge > 1 else str(edge), *bars))
        edge = max(2 * edge, 1)
    sides = (Column(heading, is_text=True) for heading in ("prompts", "outputs"))
    return Table((Column("tokens", is_key=True), *sides), rows)


def _bar(share: float, largest: float, block: str) -> str:
    return f"{block * round(BAR_WIDTH * share / largest)} {share:.1f}%"


def _lengths(dataset: Dataset) -> tuple[list[int], list[int]]:
    return [row.prompt_len for row in dataset.rows], [row.output_len for row in dataset.rows]


def _paper(means: MeanLengths | None) -> str:
    return "-" if means is None else f"{means.prompt} / {means.output}"
