"""What `replay --certify` prints: one row per rate, and the verdict."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from pagedbench.runs.files import csv_text, json_text
from pagedbench.runs.numbers import number
from pagedbench.show.console import say
from pagedbench.show.table import Cell, Column, Table, markdown_table, print_table
from pagedbench.tools.replay.certify import DELAYS, MAX_LAG, MAX_TTFT_ERROR, highest_kept

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from rich.console import Console

    from pagedbench.tools.replay.certify import RateCheck

COLUMNS = (
    Column("rate", "req/s", is_key=True),
    Column("sent", "req/s"),
    Column("requests", priority=2),
    Column("failed", priority=1),
    Column("lag p50", "ms"),
    Column("lag p99", "ms"),
    Column("lag max", "ms", priority=1),
    Column("late %"),
    Column("TTFT error p50", "ms"),
    Column("TTFT error p99", "ms"),
    Column("gap error p99", "ms", priority=1),
    Column("CPU %", priority=2),
    Column("kept", is_text=True),
)

LEGEND = (
    f"Poisson arrivals of streams of {DELAYS.num_tokens} words; the first after {1000 * DELAYS.ttft:g} ms, "
    f"then every {1000 * DELAYS.gap:g} ms, from a process on this machine. "
    f"lag: from the scheduled time to the first byte sent; late: a lag above {1000 * MAX_LAG:g} ms; "
    "errors: the client's times - the server's, by one clock; CPU: of the worker processes; "
    f"kept: nothing failed, and 99 % of the requests had a lag of at most {1000 * MAX_LAG:g} ms "
    f"and a TTFT error of at most {1000 * MAX_TTFT_ERROR:g} ms."
)


def print_checks(console: Console, checks: Items[RateCheck], num_workers: int) -> None:
    """Print the table and the verdict."""
    print_table(console, checks_table(checks))
    say(console, LEGEND, "dim")
    say(console, verdict(checks, num_workers), "bold")


def checks_table(checks: Items[RateCheck]) -> Table:
    return Table(COLUMNS, [_row(check) for check in checks])


def _row(check: RateCheck) -> list[object]:
    kept = Cell("yes") if check.is_kept else Cell("no", style="red")
    milliseconds = (check.lag_p50, check.lag_p99, check.lag_max)
    errors = (check.ttft_error_p50, check.ttft_error_p99, check.gap_error_p99)
    return [
        check.rate, check.sent_rate, check.num_requests, check.num_failed,
        *(1000 * value for value in milliseconds), 100 * check.late_share,
        *(1000 * value for value in errors), 100 * check.cpu_share, kept,
    ]  # fmt: skip


def verdict(checks: Items[RateCheck], num_workers: int) -> str:
    """One sentence, and another if calls had to wait for sockets."""
    kept, full = highest_kept(checks), ""
    if any(check.was_full for check in checks):
        full = " Calls had to wait for sockets: raise the limit of open files (ulimit -n)."
    workers = "1 worker" if num_workers == 1 else f"{num_workers} workers"
    if kept is None:
        lowest = min(check.rate for check in checks)
        return f"The load generator with {workers} does not keep up with {number(lowest)} req/s here.{full}"
    return (
        f"The load generator with {workers} is certified for {number(kept.rate)} req/s on this machine: "
        f"busiest seconds of {kept.peak}.{full}"
    )


def document(checks: Items[RateCheck], kind: str) -> str:
    """The checks for a program: "json", "csv" or "md"."""
    if kind == "md":
        return markdown_table(checks_table(checks))
    rows = [_document_row(check) for check in checks]
    return csv_text(rows[0], rows) if kind == "csv" else json_text(rows)


def _document_row(check: RateCheck) -> dict[str, object]:
    """A flat row: `peak_requests` and `peak_chunks` are those of the busiest seconds."""
    row = asdict(check)
    peak = {f"peak_{name}": value for name, value in row.pop("peak").items()}
    return {**row, **peak, "kept": check.is_kept}
