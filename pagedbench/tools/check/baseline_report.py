"""Baselines for people: which there are, what is in one, and what real runs on a machine can detect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.runs.numbers import number
from pagedbench.show.console import print_whole
from pagedbench.tools.check.report import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as Items

    from rich.console import Console

    from pagedbench.tools.check.wall import Noise

COMMIT_LEN = 12


def origin(version: str, commit: str | None, saved: str) -> str:
    """Where a baseline comes from, in words."""
    place = f", commit {commit[:COMMIT_LEN]}" if commit else ""
    return f"saved {saved} by pagedbench {version}{place}"


def print_baselines(console: Console, rows: Items[Items[str]]) -> None:
    """`rows`: file, in use or not, date, version, commit, cases, real runs; or a file and what is wrong."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("baseline", "", "saved", "version", "commit", "cases", "real runs"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    print_whole(console, table)


def print_cases(console: Console, cases: Mapping[str, Mapping[str, object]]) -> None:
    """The key figures of every case. `cases`: name -> metrics."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("case", no_wrap=True)
    for heading in COLUMNS.values():
        table.add_column(heading, no_wrap=True, justify="right")
    for name, metrics in cases.items():
        table.add_row(name, *(number(metrics.get(column)) for column in COLUMNS))
    print_whole(console, table)


def print_noise(console: Console, noises: Items[Noise], num_runs: int) -> None:
    """What the same runs scatter on this machine, and what can be told from that."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("metric", "mean", "A/A deviation", "threshold", "detectable"):
        table.add_column(heading, no_wrap=True, justify="left" if heading == "metric" else "right")
    for noise in noises:
        shares = (noise.deviation, noise.threshold, noise.detectable)
        table.add_row(noise.metric, number(noise.mean), *(f"{100 * share:.1f} %" for share in shares))
    print_whole(console, table)
    console.print(
        f"From {num_runs} equal runs. A/A deviation: of the log ratio of two of them. A check of as many "
        "runs fails beyond the threshold, and detects a change as large as the last column in 9 of 10 "
        "tries.",
        style="dim",
        soft_wrap=True,
    )
