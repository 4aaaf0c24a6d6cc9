"""Which evicted prefixes of a saved run were computed again, why they had been evicted, and the cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.runs.numbers import counted, number
from pagedbench.show.console import say
from pagedbench.show.table import Column, Table, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from pagedbench.runs.saved import SavedRun

MOST = 10
"""Rows that are shown: the costliest; the file has all."""

COLUMNS = (
    Column("evicted at s", is_key=True),
    Column("to make room for", is_key=True, is_text=True),
    Column("computed again by", is_text=True),
    Column("at s"),
    Column("blocks"),
    Column("tokens"),
)


def print_evictions(console: Console, run: SavedRun) -> None:
    """Print how much was computed again after an eviction, and the costliest cases in order of time."""
    evicted = run.values.get("evicted_blocks")
    if not evicted:
        return
    if not (run.folder / "events.parquet").is_file():
        say(
            console,
            f"{run.system}: {evicted:,} blocks of the prefix cache were evicted; a run with --save-events "
            "says which of them were computed again, and by which requests.",
        )
        return
    log = run.evictions
    if log is None:
        say(console, f"{run.system}: {evicted:,} blocks were evicted, and none was needed again.")
        return
    blocks, tokens = int(log["blocks"].sum()), int(log["tokens"].sum())
    requests = counted(log["again_request_id"].nunique(), "request")
    pause = number(float((log["again_t_s"] - log["t_s"]).mean()))
    say(
        console,
        f"{run.system}: {evicted:,} blocks of the prefix cache were evicted; {blocks:,} of them, "
        f"{tokens:,} tokens, were computed again by {requests}, {pause} s later on average.",
    )
    shown = log.nlargest(MOST, "tokens").sort_index()
    if len(log) > len(shown):
        say(console, f"The {len(shown)} costliest; all are in {run.folder / 'evictions.csv'}:")
    rows: list[list[object]] = []
    for _, row in shown.iterrows():
        cause = row["cause_request_id"]
        room = "no request" if cause != cause else f"request {int(cause)}"  # empty: it expired
        again = f"request {int(row['again_request_id'])}"
        sizes = (int(row["blocks"]), int(row["tokens"]))
        rows.append([float(row["t_s"]), room, again, float(row["again_t_s"]), *sizes])
    print_table(console, Table(COLUMNS, rows))
