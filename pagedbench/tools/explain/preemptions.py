"""When and why requests of a saved run were preempted, and what it cost: one look at preemptions.csv."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import counted, number
from pagedbench.show.console import print_whole

if TYPE_CHECKING:
    from rich.console import Console

    from pagedbench.runs.saved import SavedRun

MOST = 10
"""Rows that are shown: those that cost most; the file has all."""

HEADINGS = ("at s", "victim", "for the growth of", "mode", "blocks freed", "computed again", "back after s")


def print_preemptions(console: Console, run: SavedRun) -> None:
    """How many, when, how much was computed again, and the costliest ones in order of time."""
    from rich import box
    from rich.table import Table

    log = run.preemptions
    if log is None:
        console.print(f"{run.system}: no request was preempted.")
        return
    log = log.assign(away=log["resumed_t_s"] - log["t_s"])
    shown = log.nlargest(MOST, ["tokens_lost", "away"]).sort_index()
    total, lost = counted(len(log), "preemption"), int(log["tokens_lost"].sum())
    console.print(
        f"{run.system}: {total} of {counted(log['victim_request_id'].nunique(), 'request')}, from "
        f"{number(float(log['t_s'].min()))} s to {number(float(log['t_s'].max()))} s; {lost:,} tokens were "
        f"computed again, and requests were away for {number(float(log['away'].mean()))} s on average."
    )
    if len(log) > len(shown):
        console.print(f"The {len(shown)} that cost most; all are in {run.folder / 'preemptions.csv'}:")
    table = Table(*HEADINGS, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    for _, row in shown.iterrows():
        away = float(row["away"])
        table.add_row(
            number(float(row["t_s"])),
            f"request {row['victim_request_id']}",
            f"request {row['cause_request_id']}",
            str(row["mode"]),
            f"{row['blocks_freed']:,}",
            f"{row['tokens_lost']:,}",
            "never" if math.isnan(away) else number(away),
        )
    print_whole(console, table)
