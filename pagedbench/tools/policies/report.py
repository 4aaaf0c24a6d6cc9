"""The rows of a study for people: a table, the differences from the first entry, and conclusions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pagedbench.runs.files import csv_text, json_text
from pagedbench.runs.numbers import counted
from pagedbench.show.console import say
from pagedbench.show.identity import identity, identity_columns, varying
from pagedbench.show.table import Cell, Column, Table, markdown_table, print_table
from pagedbench.tools.policies.entries import Bound
from pagedbench.tools.policies.study import COMPARED, FIGURES, IN_POINTS

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from rich.console import Console

    from pagedbench.tools.policies.study import Row

DISTANCES = ("tax_above_oracle", "hits_below_belady", "throughput_of_unlimited_pct")
OWN_COLUMNS = ("bound", "num_runs", "valid", "overloaded", *FIGURES, *DISTANCES)

HEADINGS = {
    "prefix_hit_pct": Column("hits %", name="prefix_hit_pct"),
    "hits_below_belady": Column("below Belady", name="hits_below_belady", priority=1),
    "recompute_tax": Column("recompute tax %", name="recompute_tax_pct"),
    "tax_above_oracle": Column("above oracle", name="tax_above_oracle", priority=1),
    "output_throughput": Column("output tokens/s", name="output_throughput"),
    "throughput_of_unlimited_pct": Column("% of unlimited", name="throughput_of_unlimited_pct", priority=1),
    "goodput": Column("goodput requests/s", name="goodput"),
    "ttft_p99_ms": Column("TTFT p99", "ms", name="ttft_p99_ms", priority=2),
    "tpot_p99_ms": Column("TPOT p99", "ms", name="tpot_p99_ms", priority=2),
    "itl_p99_ms": Column("ITL p99", "ms", name="itl_p99_ms", priority=2),
    "preemptions_recompute": Column("recomputed", name="preemptions_recompute", priority=3),
    "preemptions_swap": Column("swapped", name="preemptions_swap", priority=3),
    "evicted_blocks": Column("evicted blocks", name="evicted_blocks", priority=3),
}
"""Key of a row -> column of the table."""

LEGEND = (
    "recompute tax: share of the computed tokens that were computed again because of a preemption; above "
    "oracle: percentage points above victims with the shortest rest; below Belady: percentage points below "
    "evictions of what is needed last; % of unlimited: of the throughput with a pool in which nothing is "
    "evicted or preempted"
)

ORACLE = (
    "Choosing the victims with the shortest rest needs the lengths of replies. It is a reference, not a "
    "limit: other rules may lose fewer tokens."
)

PINNED = (
    "Belady's rule is optimal for a cache alone. Here blocks of running requests are pinned and the order "
    "of admission depends on the policy, so it is a reference, and another rule may surpass it."
)


def print_study(console: Console, rows: Items[Row]) -> None:
    """Print the table, the paired differences if there are several seeds, and remarks."""
    print_table(console, study_table(rows))
    say(console, f"{LEGEND}.", "dim")
    if rows[0]["num_runs"] > 1:
        console.print()
        print_table(console, changes_table(rows), _changes_title(rows))
    for sentence in sentences(rows):
        say(console, sentence)


def study_table(rows: Items[Row]) -> Table:
    """One row per entry: options in which they differ, figures that any of them has, and the state."""
    names = _names(rows)
    known = [name for name in HEADINGS if any(row.get(name) not in (None, 0) for row in rows)]
    columns = (
        *identity_columns(names),
        Column("bound", is_text=True),
        *(HEADINGS[name] for name in known),
        Column("state", is_text=True),
    )
    cells = [
        [*identity(row, names), row["bound"] or "", *(row[name] for name in known), _state(row)]
        for row in rows
    ]
    return Table(columns, cells)


def changes_table(rows: Items[Row]) -> Table:
    """Mean differences from the first entry of the same pool; a star if the interval excludes zero."""
    names = _names(rows)
    known = [name for name in COMPARED if any(f"{name}_change_mean" in row for row in rows)]
    columns = (
        *identity_columns(names),
        *(Column(HEADINGS[name].heading.removesuffix(" %"), name=f"{name}_change") for name in known),
    )
    cells = [
        [*identity(row, names), *(_change(row, name) for name in known)]
        for row in rows
        if any(f"{name}_change_mean" in row for name in known) and row["bound"] != Bound.POOL.value
    ]
    return Table(columns, cells)


def _change(row: Row, name: str) -> Cell:
    low, mean, high = (row.get(f"{name}_change_{end}") for end in ("low", "mean", "high"))
    if low is None or mean is None or high is None:
        return Cell(None)
    unit = "" if name in IN_POINTS else " %"
    if not math.isfinite(low):
        return Cell(f"{mean:+.3g}{unit}")
    is_clear = low > 0 or high < 0
    return Cell(f"{mean:+.3g}{unit}", f"({low:+.3g} to {high:+.3g})", is_best=is_clear)


def _changes_title(rows: Items[Row]) -> str:
    runs = counted(rows[0]["num_runs"], "seed")
    return (
        f"Differences from the first row of the pool, paired over {runs}; *: the 95 % interval excludes 0"
    )


def _names(rows: Items[Row]) -> list[str]:
    """The options in which entries differ; a pool that is a bound is named as such."""
    own = [row for row in rows if row["bound"] != Bound.POOL.value]
    return varying(own)


def _state(row: Row) -> str:
    return "invalid" if not row["valid"] else "overloaded" if row["overloaded"] else "valid"


def sentences(rows: Items[Row]) -> list[str]:
    """What a reader should conclude from the table, and what not."""
    own = [row for row in rows if not row["bound"]]
    found = []
    if not any(_num_preempted(row) or row["evicted_blocks"] for row in own):
        found.append(
            "Nothing was preempted or evicted, so only admission mattered: give less memory (--kv-slots) "
            "or more load (--rate)."
        )
    if any(row["recompute_tax"] for row in own):
        found.append(ORACLE)
    if any(row["bound"] == Bound.EVICTION.value for row in rows):
        found.append(PINNED)
    for row in rows:
        if row["bound"] == Bound.POOL.value and (_num_preempted(row) or row["evicted_blocks"]):
            found.append("The unlimited pool was not large enough to avoid every preemption and eviction.")
            break
    return found


def _num_preempted(row: Row) -> float:
    return float((row["preemptions_recompute"] or 0) + (row["preemptions_swap"] or 0))


def records_of(rows: Items[Row]) -> list[dict[str, Any]]:
    """The rows of policies.csv: workload and policies, figures, distances, and differences."""
    changes = [f"{name}_change_{end}" for name in COMPARED for end in ("mean", "low", "high")]
    fixed = [name for name in rows[0] if name not in ("setting", "by_seed", *OWN_COLUMNS, *changes)]
    names = [name for name in fixed if name not in ("run_id", "label", "seed")]
    records = []
    for row in rows:
        record = {_column(name): row.get(name) for name in (*names, *OWN_COLUMNS)}
        ends = {_column(name): row.get(name) for name in changes}
        records.append(record | {name: _finite(value) for name, value in ends.items()})
    return records


def _column(name: str) -> str:
    """The name of a column: the tax is in percent here, like the other shares."""
    return name.replace("recompute_tax", "recompute_tax_pct")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def document(rows: Items[Row], kind: str) -> str:
    """`kind`: "json" (a list of objects), "csv" or "md"."""
    records = records_of(rows)
    if kind == "json":
        return json_text(records)
    return csv_text(records[0], records) if kind == "csv" else markdown_table(study_table(rows))
