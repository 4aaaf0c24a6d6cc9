"""Capacities as rows: a table for people with what limits each system, CSV, JSON with every run made."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pagedbench.config import DEFAULT_SYSTEM, plain
from pagedbench.runs.numbers import number, ratio
from pagedbench.show.comparison import is_one_pool
from pagedbench.show.console import print_whole

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
"""Of capacity.csv. A search for a rate: `capacity` is the highest rate tried that meets the criterion, 0 if
none, and `missed_rate` the lowest tried that does not, both in requests per second. A search for a pool, at
`rate`: `kv_slots`, `kv_blocks` and `kv_memory_gib` are the least pool tried that meets it, empty if none,
and `missed_kv_slots` is the largest tried that does not; `device_kv_slots` is what the device leaves, or
what was asked for. `figure_at_capacity`: what the criterion bounds.
`duration_s`: of arrivals in each run; `compared_duration_s`: of longer runs, which agree about both ends;
`is_widened`: the interval was widened until they did."""

REFERENCE = DEFAULT_SYSTEM
IDENTITY = ("model", "device", "tensor_parallel_size", "device_kv_slots", "trace", "rate", "n",
            "beam_width", "block_size", "max_num_seqs", "max_num_batched_tokens", "preemption",
            "prefix_caching", "seed")  # fmt: skip

OWN = ("block_size", "device_kv_slots", "prefix_caching")
"""Those in which a system may differ from the one that it is compared with; the pools are equal but for
their blocks."""

RATE_ANSWERS = ("capacity", "missed_rate")
POOL_ANSWERS = ("kv_memory_gib", "kv_slots", "kv_blocks", "missed_kv_slots")
RATE_HEADINGS = ("max rate\nreq/s", "misses at\nreq/s", "paged /\nthis", "measured", "running /\niteration")
POOL_HEADINGS = ("least KV\nGiB", "\ntokens", "\nblocks", "misses at\ntokens", "this /\npaged", "measured",
                 "running /\niteration")  # fmt: skip


def print_capacities(console: Console, rows: Sequence[Row]) -> None:
    """One line a system and criterion, in the order asked for; several seeds are summed up below."""
    from rich import box
    from rich.table import Table

    varying = _varying(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("system", no_wrap=True)
    for name in varying:
        table.add_column(name.removeprefix("device_"), no_wrap=True)
    for heading in POOL_HEADINGS if _is_pool(rows[0]) else RATE_HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("limited by", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, varying, rows))
    print_whole(console, table)
    for sentence in (*meaning_sentences(rows), *seed_sentences(rows), *limit_sentences(rows)):
        console.print(sentence, soft_wrap=True)


def capacity_csv(rows: Sequence[Row]) -> str:
    """A header and a line a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = (row[name] for name in COLUMNS)
        writer.writerow([f"{cell:.10g}" if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue()


def capacity_document(rows: Sequence[Row], kind: str) -> str:
    """`kind`: "json" (a list of objects, each with its `probes`), "csv" or "md"."""
    if kind == "json":
        return json.dumps(list(rows), indent=2, allow_nan=False) + "\n"
    if kind == "csv":
        return capacity_csv(rows)
    answers = POOL_ANSWERS if _is_pool(rows[0]) else RATE_ANSWERS
    names = ("system", "trace", "seed", "criterion", *answers, "limited_by")
    ratio_name = "this / paged" if _is_pool(rows[0]) else "paged / this"
    lines = [[*names, ratio_name], ["---"] * 4 + ["---:"] * len(answers) + ["---", "---:"]]
    for row in rows:
        lines.append([*(_shown(row[name]) for name in names), _advantage(row, rows)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def meaning_sentences(rows: Sequence[Row]) -> list[str]:
    """What was found, how exactly, and over how long runs."""
    criteria = list(dict.fromkeys(row["criterion"] for row in rows))
    met = f": {criteria[0]}" if len(criteria) == 1 else " the criterion"
    if _is_pool(rows[0]):
        rates = {number(row["rate"]) for row in rows}
        at = f", at {rates.pop()} requests/s" if len(rates) == 1 else ""
        found = any(row["kv_slots"] is not None and row["missed_kv_slots"] is not None for row in rows)
        exact = " The next smaller pool tried misses it." if found else ""
        sentences = [f"Least KV pool that meets{met}{at}.{exact}", *_sentences(rows, _beyond)]
    else:
        sentences = [f"Max rate that meets{met}.", *_sentences(rows, _scaled)]
    lengths = _sentences(rows, _run_length)
    if len(lengths) == 1:
        lengths = [f"{_run_length(rows[0]).capitalize()}."]
    return [*sentences, *lengths]


def _sentences(rows: Sequence[Row], words: Callable[[Row], str]) -> list[str]:
    """What there is to say of single rows; those of which the same is said share a sentence."""
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
    """The range over seeds of everything that was searched with several."""
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
    """Why, for the last row of every system and workload: what was seen in the run that missed."""
    last = {_label(row, rows, leave_out="seed criterion"): row for row in rows if row["limit_detail"]}
    return [f"{label} {_missed(row)}: {row['limit_detail']}." for label, row in last.items()]


def _missed(row: Row) -> str:
    if _is_pool(row):
        return f"with {number(row['missed_kv_slots'])} tokens"
    return f"at {number(row['missed_rate'])} requests/s"


def _beyond(row: Row) -> str:
    """How the answer relates to a device that has too little memory; empty for one that has enough."""
    tokens = f"{number(row['device_kv_slots'])} tokens"
    if row["kv_slots"] is not None:
        is_more = row["kv_slots"] > row["device_kv_slots"]
        return f"needs more than the {tokens} that the device leaves" if is_more else ""
    times = row["missed_kv_slots"] / row["device_kv_slots"]
    if times > 1:
        return f"no pool up to {times:.3g} times the {tokens} that the device leaves meets it"
    return f"even the largest pool, {tokens}, misses it"


def _is_pool(row: Row) -> bool:
    """Was the least pool searched, rather than the highest rate?"""
    return bool(row["find"] == "kv-memory")


def _label(row: Row, rows: Sequence[Row], *, leave_out: str) -> str:
    """The row's name among the others: its system, and what else differs."""
    names = [name for name in _varying(rows) if name not in leave_out.split()]
    return ", ".join([row["system"], *(_shown(row[name]) for name in names)])


def _varying(rows: Sequence[Row]) -> list[str]:
    """The columns that tell rows of a system apart."""
    systems, columns = {row["system"] for row in rows}, (*IDENTITY, "criterion")
    names = [n for n in columns if len({(row["system"], str(row.get(n))) for row in rows}) > len(systems)]
    if "device_kv_slots" in names and _have_one_pool(rows):
        names = [name for name in names if name != "device_kv_slots"]
    return names


def _have_one_pool(rows: Sequence[Row]) -> bool:
    return is_one_pool((row["device_kv_slots"], row["block_size"]) for row in rows)


def _cells(row: Row, varying: Sequence[str], rows: Sequence[Row]) -> list[str]:
    answers = POOL_ANSWERS if _is_pool(row) else RATE_ANSWERS
    return [
        row["system"],
        *(_shown(row[name]) for name in varying),
        *(number(row[name]) for name in answers),
        _advantage(row, rows),
        number(row["figure_at_capacity"]),
        number(row["running_mean"]),
        row["limited_by"] or "nothing",
    ]


def _advantage(row: Row, rows: Sequence[Row]) -> str:
    """How many times this system's capacity paged has, or paged's pool this system needs."""
    same = [
        other
        for other in rows
        if other["system"] == REFERENCE
        and _have_one_pool((row, other))
        and all(other[name] == row[name] for name in (*IDENTITY, "criterion") if name not in OWN)
    ]
    if len(same) != 1:
        return ""
    if _is_pool(row):
        return ratio(row["kv_slots"], same[0]["kv_slots"])
    return ratio(float(same[0]["capacity"]), row["capacity"])


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return number(value) if isinstance(value, float) else plain(value)
