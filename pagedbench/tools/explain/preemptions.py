"""When and why requests of a saved run were preempted, and at what cost, from its preemptions.csv."""

from __future__ import annotations

import math
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
    Column("at s", is_key=True),
    Column("victim", is_key=True),
    Column("caused by"),
    Column("mode", is_text=True),
    Column("blocks freed"),
    Column("tokens recomputed"),
    Column("preempted for s"),
)


def print_preemptions(console: Console, run: SavedRun) -> None:
    """Print how many there were, when, the recomputed tokens, and the costliest ones in order of time."""
    log = run.preemptions
    if log is None:
        say(console, f"{run.system}: no request was preempted.")
        return
    log = log.assign(pause=log["resumed_t_s"] - log["t_s"])
    shown = log.nlargest(MOST, ["tokens_lost", "pause"]).sort_index()
    total, lost = counted(len(log), "preemption"), int(log["tokens_lost"].sum())
    say(
        console,
        f"{run.system}: {total} of {counted(log['victim_request_id'].nunique(), 'request')}, from "
        f"{number(float(log['t_s'].min()))} s to {number(float(log['t_s'].max()))} s; {lost:,} tokens were "
        f"recomputed, and requests were preempted for {number(float(log['pause'].mean()))} s on average.",
    )
    if len(log) > len(shown):
        say(console, f"The {len(shown)} costliest; all are in {run.folder / 'preemptions.csv'}:")
    rows = []
    for _, row in shown.iterrows():
        pause = float(row["pause"])
        requests = (f"request {row[f'{kind}_request_id']}" for kind in ("victim", "cause"))
        costs = (int(row["blocks_freed"]), int(row["tokens_lost"]))
        resumed = "never resumed" if math.isnan(pause) else number(pause)
        rows.append([float(row["t_s"]), *requests, str(row["mode"]), *costs, resumed])
    print_table(console, Table(COLUMNS, rows))
