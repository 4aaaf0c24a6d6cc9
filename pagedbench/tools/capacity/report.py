"""Capacities for people, with what limits each system, and as CSV; the JSON has every run."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pagedbench.config import DEFAULT_SYSTEM
from pagedbench.runs.files import csv_text, json_text
from pagedbench.runs.numbers import number, ratio
from pagedbench.show.console import say
from pagedbench.show.identity import OPTIONS, identity, identity_columns, is_one_pool, varying
from pagedbench.show.table import Column, Table, markdown_table, print_table
from pagedbench.tools.capacity.probe import Goal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

Row = dict[str, Any]

COLUMNS = (
    "system",
    "model",
    "device",
    "trace",
    "arrival",
    "burstiness",
    "n",
    "beam_width",
    "block_size",
    "kv_slots",
    "cost_model",
    "tensor_parallel_size",
    "max_num_seqs",
    "max_num_batched_tokens",
    "preemption",
    "prefix_caching",
    "num_requests",
    "duration_s",
    "compared_duration_s",
    "is_widened",
    "seed",
    "find",
    "criterion",
    "capacity",
    "missed_rate",
    "rate",
    "time_scale",
    "kv_blocks",
    "kv_memory_gib",
    "missed_kv_slots",
    "device_kv_slots",
    "figure_at_capacity",
    "running_mean",
    "limited_by",
    "limit_detail",
    "tolerance",
    "runs",
    "valid",
)
"""The columns of capacity.csv.

A search for a rate: `capacity` is the highest rate tried that meets the criterion, 0 if none, and
`missed_rate` the lowest tried that does not, both in requests per second.
A search for a pool, at `rate`: `kv_slots`, `kv_blocks` and `kv_memory_gib` are the smallest pool tried that
meets it, empty if none; `missed_kv_slots` is the largest tried that does not, and `device_kv_slots` the
device's own pool, or the one asked for.
`figure_at_capacity`: what the criterion bounds. `duration_s`: seconds of arrivals in each run.
`compared_duration_s`: the same of longer runs, which agree about both ends; `is_widened`: the interval was
widened until they did.
"""

REFERENCE = DEFAULT_SYSTEM

OWN = ("block_size", "kv_slots", "device_kv_slots", "prefix_caching")
"""Options in which a system may differ from the one that it is compared with; the pools are equal except
for their blocks."""

RATE_ANSWERS = (
    Column("max rate meeting the SLO", name="capacity"),
    Column("misses at", name="missed_rate"),
)
POOL_ANSWERS = (
    Column("least KV GiB", name="kv_memory_gib"),
    Column("KV tokens", name="kv_slots"),
    Column("KV blocks", name="kv_blocks", priority=2),
    Column("misses at tokens", name="missed_kv_slots"),
)
DETAILS = (
    Column("measured", name="figure_at_capacity", priority=1),
    Column("batch size", name="running_mean", priority=1),
    Column("limited by", name="limited_by", is_text=True),
)


def print_capacities(console: Console, rows: Sequence[Row]) -> None:
    """Print one line per system and criterion, in the order asked for, and a summary of several seeds."""
    print_table(console, capacity_table(rows))
    for sentence in (*meaning_sentences(rows), *seed_sentences(rows), *limit_sentences(rows)):
        say(console, sentence)


def capacity_table(rows: Sequence[Row]) -> Table:
    """The options that vary, the answer, its ratio to that of `paged`, and what limits it."""
    names = _names(rows)
    is_pool = _is_pool(rows[0])
    answers = POOL_ANSWERS if is_pool else RATE_ANSWERS
    relative = Column("this / paged" if is_pool else "paged / this", priority=1)
    cells: list[list[object]] = []
    for row in rows:
        limit = row["limited_by"] or "nothing"
        figures = [row[column.name] for column in (*answers, *DETAILS[:-1])]
        figures.insert(len(answers), _advantage(row, rows))
        cells.append([*identity(row, names), *figures, limit])
    return Table((*identity_columns(names), *answers, relative, *DETAILS), cells)


def capacity_document(rows: Sequence[Row], kind: str) -> str:
    """`kind`: "json" (a list of objects, each with its `probes`), "csv" or "md"."""
    if kind == "json":
        return json_text(rows)
    return csv_text(COLUMNS, rows) if kind == "csv" else markdown_table(capacity_table(rows))


def meaning_sentences(rows: Sequence[Row]) -> list[str]:
    """What the answers mean, how exact they are, and how long the runs were."""
    criteria = list(dict.fromkeys(row["criterion"] for row in rows))
    met = f" ({criteria[0]})" if len(criteria) == 1 else ""
    if _is_pool(rows[0]):
        rates = {number(row["rate"]) for row in rows}
        at = f", at {rates.pop()} requests/s" if len(rates) == 1 else ""
        found = any(row["kv_slots"] is not None and row["missed_kv_slots"] is not None for row in rows)
        exact = " The next smaller pool tried misses it." if found else ""
        sentences = [f"Least KV pool meeting the SLO{met}{at}.{exact}", *_sentences(rows, _beyond)]
    else:
        sentences = [f"Max rate meeting the SLO{met}, in requests/s.", *_sentences(rows, _scaled)]
    lengths = _sentences(rows, _run_length)
    if len(lengths) == 1:
        lengths = [f"{_run_length(rows[0]).capitalize()}."]
    return [*sentences, *lengths]


def _sentences(rows: Sequence[Row], words: Callable[[Row], str]) -> list[str]:
    """Sentences about single rows; rows with the same words share a sentence."""
    said: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        said[words(row)].append(_label(row, rows, leave_out=""))
    return [f"{'; '.join(labels)}: {text}." for text, labels in said.items() if text]


def _scaled(row: Row) -> str:
    return f"--time-scale {row['time_scale']:g}" if row["time_scale"] else ""


def _run_length(row: Row) -> str:
    """How long the runs were, and whether the result depends on it."""
    if row["duration_s"] is None:
        return f"runs of {row['num_requests']:,} requests"
    length = f"runs of {row['duration_s']:,g} s of arrivals"
    if row["compared_duration_s"] is None:
        return length
    compared = f"those of {row['compared_duration_s']:,g} s"
    if row["is_widened"]:
        return f"{length}; the interval was widened until {compared} agreed"
    return f"{length}; {compared} agree"


def seed_sentences(rows: Sequence[Row]) -> list[str]:
    """The ranges over seeds, where there are several."""
    groups: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        answer = row["kv_memory_gib"] if _is_pool(row) else row["capacity"]
        if answer is not None:
            groups[_label(row, rows, leave_out="seed")].append(answer)
    unit = "GiB" if _is_pool(rows[0]) else "requests/s"
    return [
        f"{label}: {number(sum(found) / len(found))} {unit} on average over {len(found)} seeds, from "
        f"{number(min(found))} to {number(max(found))}."
        for label, found in groups.items()
        if len(found) > 1
    ]


def limit_sentences(rows: Sequence[Row]) -> list[str]:
    """What limits each system on each workload (its last row), from the run that missed."""
    last = {_label(row, rows, leave_out="seed criterion"): row for row in rows if row["limit_detail"]}
    return [f"{label} {_missed(row)}: {row['limit_detail']}." for label, row in last.items()]


def _missed(row: Row) -> str:
    if _is_pool(row):
        return f"with {number(row['missed_kv_slots'])} tokens"
    return f"at {number(row['missed_rate'])} requests/s"


def _beyond(row: Row) -> str:
    """How the answer relates to a device with too little memory; empty if it has enough."""
    tokens = f"{number(row['device_kv_slots'])} tokens"
    if row["kv_slots"] is not None:
        is_more = row["kv_slots"] > row["device_kv_slots"]
        return f"needs more than the {tokens} of the device" if is_more else ""
    times = row["missed_kv_slots"] / row["device_kv_slots"]
    if times > 1:
        return f"no pool up to {times:.3g} times the {tokens} of the device meets it"
    return f"even the largest pool, {tokens}, misses it"


def _is_pool(row: Row) -> bool:
    """Was the smallest pool searched for, rather than the highest rate?"""
    return bool(row["find"] == Goal.KV_MEMORY)


def _names(rows: Sequence[Row]) -> list[str]:
    """The options in which rows of a system differ. The pool is the device's, not the one found."""
    shown = [name for name in OPTIONS if name != "kv_slots" and name in rows[0]]
    return varying([{"system": row["system"], **{name: row[name] for name in shown}} for row in rows])


def _label(row: Row, rows: Sequence[Row], *, leave_out: str) -> str:
    """The row's name: its system, and the options in which it differs from the others."""
    names = (name for name in _names(rows) if name not in leave_out.split())
    return ", ".join(identity(row, names))


def _advantage(row: Row, rows: Sequence[Row]) -> str:
    """The rate of paged / that of this system, or the pool that this system needs / that of paged."""
    compared = [name for name in OPTIONS if name not in OWN and name in row]
    same = [
        other
        for other in rows
        if other["system"] == REFERENCE
        and is_one_pool((row, other), "device_kv_slots")
        and all(other[name] == row[name] for name in compared)
    ]
    if len(same) != 1:
        return ""
    if _is_pool(row):
        return ratio(row["kv_slots"], same[0]["kv_slots"])
    return ratio(float(same[0]["capacity"]), row["capacity"])
