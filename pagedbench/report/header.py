"""The header of a run: what really runs, before it runs; and the resolved plan of --dry-run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pagedbench.report.numbers import counted, gibibytes, number, span

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from rich.table import Table

    from pagedbench.plan import Plan
    from pagedbench.workload.trace import Trace

Row = tuple[str, str]
"""A label and what it says."""


def header_rows(plans: Items[Plan], traces: Items[Trace]) -> list[Row]:
    """What runs of one model say about themselves; each of their traces once."""
    plan = plans[0]
    distinct = {id(trace): trace for trace in traces}.values()
    return [
        *_system_rows(plans),
        ("Model", f"{plan.config.model}, weights {plan.weights}, {plan.config.dtype}"),
        ("Device", _device(plan)),
        *([("Cost model", plan.cost_model)] if plan.cost_model else []),
        ("KV pool", _pool(plan)),
        *(row for trace in distinct for row in trace_rows(trace)),
    ]


def dry_run_rows(plan: Plan, trace: Trace) -> list[Row]:
    """The header, the memory plan, and every option that has a value."""
    from pagedbench.config import FIELDS, flag

    values = {name: getattr(plan.config, name) for name in FIELDS}
    options = " ".join(
        f"{flag(name)} {_shown(value)}" for name, value in values.items() if value is not None
    )
    memory = [(f"  {label}", gibibytes(num_bytes)) for label, num_bytes in plan.memory_plan]
    return [
        *header_rows([plan], [trace]),
        *([("Memory plan", "all ranks together"), *memory] if memory else []),
        (
            "Requests",
            f"{counted(len(trace.requests), 'request')}, the last after {span(trace.last_arrival)}",
        ),
        ("Options", options),
    ]


def rows_table(rows: Items[Row]) -> Table:
    """Labels in bold, text folded beside them."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in rows:
        grid.add_row(label, Text(text))
    return grid


def _system_rows(plans: Items[Plan]) -> list[Row]:
    names = dict.fromkeys(plan.system.name for plan in plans)
    system = plans[0].system
    rows = [("System", f"{system.name}: {system.summary}")]
    if len(names) > 1:
        rows = [("Systems", ", ".join(names))]
    replaced = [
        f"--{name} {value}" for name in ("memory", "batching") if (value := getattr(plans[0].config, name))
    ]
    return [*rows, ("Replaced", ", ".join(replaced))] if replaced else rows


def _device(plan: Plan) -> str:
    return f"{plan.device_name}; kernels {plan.kernels}"


def _pool(plan: Plan) -> str:
    return (
        f"{gibibytes(plan.kv_bytes)}, {plan.num_blocks:,} blocks of {plan.config.block_size}, "
        f"{plan.kv_slots:,} tokens"
    )


def trace_rows(trace: Trace) -> list[Row]:
    """Which requests, how long, where from, how fast."""
    means = trace.paper_means
    paper_in, paper_out = (f" (paper {means.prompt})", f" (paper {means.output})") if means else ("", "")
    rows = [
        (
            "Trace",
            f"{trace.name}, {counted(len(trace.requests), 'request')}: mean prompt "
            f"{trace.mean_prompt_len:.2f}{paper_in}, output {trace.mean_output_len:.2f}{paper_out} tokens",
        ),
        ("Lengths", f"synthesized ({trace.source})" if trace.synthetic else trace.source),
    ]
    if trace.num_dropped:
        rows.append(("Dropped", f"{counted(trace.num_dropped, 'row')} empty, or too long for the model"))
    if trace.num_unreadable:
        rows.append(
            ("Unreadable", f"{counted(trace.num_unreadable, 'record')} without a prompt and a reply")
        )
    realised = trace.realised_rate
    rate = "" if math.isinf(realised) else f"; realised {number(float(realised))} requests/s"
    return [*rows, ("Arrivals", f"{trace.arrival}{rate}")]


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
