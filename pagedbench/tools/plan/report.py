"""Plans for people: the answer in a sentence, a table of answers, a table of fleets, and the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from pagedbench.runs.files import csv_text, json_text
from pagedbench.runs.limits import LimitKind
from pagedbench.runs.numbers import number
from pagedbench.show.charts import Axis, Chart, Line, LinePanel
from pagedbench.show.console import say
from pagedbench.show.table import Column, Table, markdown_table, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from rich.console import Console

    Row: TypeAlias = dict[str, Any]

LIMITS = {
    LimitKind.POOL: "the KV pool",
    LimitKind.FRAGMENTATION: "fragmentation of the KV pool",
    LimitKind.BATCH: "limits on the batch",
    LimitKind.COMPUTE: "the time of a step",
}

NAMES = {
    "system": "system", "model": "model", "device": "device", "cost_model": "cost model",
    "tensor_parallel_size": "tensor parallel", "block_size": "block size", "kv_slots": "KV tokens",
    "prefix_caching": "prefix caching", "trace": "trace", "arrival": "arrival", "rate": "rate",
    "router": "router", "staleness_s": "staleness", "disaggregate": "prefill:decode",
    "autoscale": "autoscale", "replicas": "replicas", "seed": "seed",
}  # fmt: skip
"""Columns by which fleets differ."""

ANSWER_COLUMNS = (
    Column("GPUs", name="gpus"),
    Column("measured", name="figure"),
    Column("TTFT p50", "ms", name="ttft_p50_ms", priority=1),
    Column("TTFT p99", "ms", name="ttft_p99_ms"),
    Column("TPOT p99", "ms", name="tpot_p99_ms"),
    Column("hits %", name="prefix_hit_pct", priority=1),
    Column("balance", name="balance", priority=1),
    Column("cost per hour", name="cost_per_hour"),
    Column("per million output tokens", name="cost_per_million_output_tokens", priority=1),
    Column("limited by", name="limited_by", is_text=True),
)

FLEET_COLUMNS = (
    Column("replicas, mean", name="replicas_mean"),
    Column("measured", name="figure"),
    Column("meets it", name="is_met", is_text=True),
    Column("hits %", name="prefix_hit_pct"),
    Column("TTFT p50", "ms", name="ttft_p50_ms"),
    Column("TTFT p90", "ms", name="ttft_p90_ms", priority=2),
    Column("TTFT p99", "ms", name="ttft_p99_ms"),
    Column("TPOT p50", "ms", name="tpot_p50_ms", priority=1),
    Column("TPOT p99", "ms", name="tpot_p99_ms"),
    Column("req/s", name="request_throughput"),
    Column("output tokens/s", name="output_throughput", priority=1),
    Column("balance", name="balance"),
    Column("preemptions", name="preemptions", priority=2),
    Column("KV GiB moved", name="moved_gib", priority=1),
    Column("waits for KV", "ms", name="moved_mean_ms", priority=1),
    Column("cost per hour", name="cost_per_hour", priority=1),
    Column("limited by", name="limited_by", is_text=True, priority=1),
)

LEGEND = (
    "balance: tokens served by the busiest replica / the mean. hits: prompt tokens found in the prefix "
    "caches, which are empty at first."
)
CUT = "Fleets without a measure were ended early: they could no longer meet the objective."


def print_plan(console: Console, answers: Items[Row], fleets: Items[Row]) -> None:
    """Print the answers, if sizes were searched for, and every simulated fleet."""
    for answer in answers:
        label = ", ".join(f"{NAMES[name]} {_shown(answer[name])}" for name in _varying(answers))
        say(console, f"{label + ': ' if label else ''}{sentence(answer)}", "bold")
    if answers:
        print_table(console, answer_table(answers))
    print_table(console, fleet_table(fleets))
    say(console, LEGEND, "dim")
    if any(row["is_cut"] for row in fleets):
        say(console, CUT, "dim")


def sentence(answer: Row) -> str:
    """Such as: 6 (5 to 6) x h100, limited by the KV pool (mean normalized latency <= 0.2 s/token)."""
    device, ranks = str(answer["device"]).removeprefix("sim:"), answer["tensor_parallel_size"] or 1
    unit = device if ranks == 1 else f"{ranks} {device}"
    limit = answer["limited_by"]
    if answer["replicas"] is None:
        limited = f", limited by {LIMITS[LimitKind(limit)]}" if limit else ""
        return f"more than {answer['most_tried']} x {unit}{limited} ({answer['criterion']})."
    low, high = answer["replicas_min"], answer["replicas_max"]
    between = f" ({low} to {high})" if low < high else ""
    fewer = f", limited by {LIMITS[LimitKind(limit)]} with fewer" if limit else ""
    over = f", over {answer['seeds']} seeds" if answer["seeds"] > 1 else ""
    return f"{answer['replicas']}{between} x {unit}{fewer} ({answer['criterion']}{over})."


def answer_table(answers: Items[Row]) -> Table:
    """One row per question."""
    shown = _present(ANSWER_COLUMNS, answers)
    keys = _varying(answers)
    columns = [*_keys(keys), Column("replicas", name="replicas", is_text=True, is_key=True), *shown]
    rows = [
        [*(_shown(row[key]) for key in keys), _range(row), *(row[column.name] for column in shown)]
        for row in answers
    ]
    return Table(tuple(columns), rows)


def _range(row: Row) -> str:
    if row["replicas"] is None:
        return f"> {row['most_tried']}"
    low, high = row["replicas_min"], row["replicas_max"]
    return f"{row['replicas']} ({low} to {high})" if low < high else str(row["replicas"])


def fleet_table(fleets: Items[Row]) -> Table:
    """One row per fleet: the curve of the objective over the number of replicas."""
    shown = _present(FLEET_COLUMNS, fleets)
    if all(row["autoscale"] is None for row in fleets):
        shown = [column for column in shown if column.name != "replicas_mean"]
    keys = _varying(fleets, "replicas")
    rows = [
        [*(_shown(row[key]) for key in keys), *(row[column.name] for column in shown)] for row in fleets
    ]
    return Table((*_keys(keys), *shown), [[_word(cell) for cell in row] for row in rows])


def _word(cell: object) -> object:
    return ("yes" if cell else "no") if isinstance(cell, bool) else cell


def _present(columns: Items[Column], rows: Items[Row]) -> list[Column]:
    return [column for column in columns if any(row[column.name] is not None for row in rows)]


def _keys(names: Items[str]) -> list[Column]:
    return [Column(NAMES[name], name=name, is_key=True, is_text=True) for name in names]


def _varying(rows: Items[Row], *always: str) -> list[str]:
    """The columns of `NAMES` in which rows differ."""
    return (
        [
            name
            for name in NAMES
            if name in always or (name in rows[0] and len({str(row[name]) for row in rows}) > 1)
        ]
        if rows
        else []
    )


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else number(value).removeprefix("sim:")


def document(answers: Items[Row], fleets: Items[Row], kind: str) -> str:
    """`kind`: "json" (both), "csv" or "md" (the answers if sizes were searched for, else the fleets)."""
    if kind == "json":
        return json_text({"answers": answers, "fleets": fleets})
    rows = answers or fleets
    if kind == "csv":
        return csv_text(rows[0], rows)
    return markdown_table(answer_table(answers) if answers else fleet_table(fleets))


def chart_of(fleets: Items[Row]) -> Chart:
    """The figure that the objective bounds, tails and throughput over the number of replicas."""
    panels = {"figure": "Measured", "ttft_p99_ms": "TTFT p99 (ms)", "tpot_p99_ms": "TPOT p99 (ms)",
              "request_throughput": "Requests/s"}  # fmt: skip
    keys = [name for name in _varying(fleets) if name != "replicas"]
    found = []
    for name, title in panels.items():
        points: dict[str, list[tuple[float, float]]] = {}
        for row in fleets:
            if row[name] is not None and not row["is_cut"]:
                label = ", ".join(_shown(row[key]) for key in keys)
                points.setdefault(label, []).append((row["replicas"], row[name]))
        lines = []
        for label, own in points.items():
            xs, ys = zip(*sorted(own), strict=True)
            lines.append(Line(label, xs, ys))
        if lines:
            found.append(LinePanel("", Axis("Replicas"), Axis(title), tuple(lines)))
    return Chart(tuple(found))
