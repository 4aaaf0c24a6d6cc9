"""Baselines for people: a list of them, the contents of one, and what real runs can detect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.show.console import say
from pagedbench.show.table import Column, Table, print_table
from pagedbench.tools.check.report import CASE, COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as Items

    from rich.console import Console

    from pagedbench.tools.check.wall import Noise

COMMIT_LEN = 12


def origin(version: str, commit: str | None, saved: str) -> str:
    """The origin of a baseline, in words."""
    place = f", commit {commit[:COMMIT_LEN]}" if commit else ""
    return f"saved {saved} by pagedbench {version}{place}"


def print_baselines(console: Console, rows: Items[Items[str]]) -> None:
    """`rows`: file, in use or not, date, version, commit, cases, real runs; or a file and its error."""
    headings = ("baseline", "", "saved", "version", "commit", "cases", "real runs")
    columns = (
        Column(heading, is_key=not i, is_text=True, wraps=i == 2) for i, heading in enumerate(headings)
    )
    print_table(console, Table(tuple(columns), rows))


def print_cases(console: Console, cases: Mapping[str, Mapping[str, object]]) -> None:
    """The key figures of every case. `cases`: name -> metrics."""
    rows = [[name, *(metrics.get(column.name) for column in COLUMNS)] for name, metrics in cases.items()]
    print_table(console, Table((CASE, *COLUMNS), rows))


def print_noise(console: Console, noises: Items[Noise], num_runs: int) -> None:
    """Print how much equal runs differ on this machine, and which change can be detected."""
    columns = (
        Column("metric", is_key=True, is_text=True),
        *map(Column, ("mean", "A/A deviation", "threshold", "detectable")),
    )
    rows = []
    for noise in noises:
        shares = (noise.deviation, noise.threshold, noise.detectable)
        rows.append([noise.metric, noise.mean, *(f"{100 * share:.1f} %" for share in shares)])
    print_table(console, Table(columns, rows))
    say(
        console,
        f"From {num_runs} equal runs. A/A deviation: that of the log ratio of two runs. A check with "
        f"{num_runs} runs fails beyond the threshold, and detects a change as large as the last column in "
        "9 of 10 tries.",
        "dim",
    )
