"""The picture of a study: hits, recomputed work, throughput and a tail, by policy, or over the pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.show.charts import Axis, BarPanel, Chart, Line, LinePanel, Series
from pagedbench.tools.policies.entries import QUESTIONS, Bound

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.tools.policies.study import Row

PANELS = {
    "prefix_hit_pct": "Prefix hits (%)",
    "recompute_tax": "Recompute tax (%)",
    "output_throughput": "Output tokens/s",
    "ttft_p99_ms": "TTFT p99 (ms)",
}


def chart_of(rows: Items[Row]) -> Chart:
    """One panel per figure that any entry has; lines over the pool's size if there are several sizes."""
    known = {name: title for name, title in PANELS.items() if any(row[name] for row in rows)}
    own = [row for row in rows if row["bound"] != Bound.POOL.value]
    if len({row["kv_slots"] for row in own}) > 1:
        return Chart(tuple(_lines(own, name, title) for name, title in known.items()))
    groups = tuple(label(row, rows[0]).replace(", ", "\n") for row in rows)
    width = max(4.2, 0.55 * len(rows) + 1)
    panels = (
        BarPanel("", Axis(title), groups, (Series("", tuple(row[name] for row in rows)),))
        for name, title in known.items()
    )
    return Chart(tuple(panels), panel_width=width)


def label(row: Row, first: Row) -> str:
    """The answers in which an entry differs from the first; for a bound, its name."""
    if row["bound"]:
        return str(row["bound"])
    answers = [str(row[question]) for question in QUESTIONS if row[question] != first[question]]
    return ", ".join(answers) or ", ".join(str(row[name]) for name in ("victim", "eviction") if row[name])


def _lines(rows: Items[Row], name: str, title: str) -> LinePanel:
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row[name] is not None:
            points.setdefault(label(row, rows[0]), []).append((row["kv_slots"], row[name]))
    lines = []
    for key, own in points.items():
        xs, ys = zip(*sorted(own), strict=True)
        lines.append(Line(key, xs, ys))
    return LinePanel("", Axis("KV pool (tokens)", is_log=True), Axis(title), tuple(lines))
