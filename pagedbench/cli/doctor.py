"""`pagedbench doctor`: what this machine has, and whether a run would work on it."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Say whether this machine is ready: exit code 0, or 1 if a run would fail."""
    from pagedbench.cli.checks import Readiness, all_findings
    from pagedbench.show.console import stdout_console
    from pagedbench.show.table import Cell, Column, Table, print_table

    console = stdout_console()
    findings = all_findings()
    columns = (
        Column("check", is_key=True, is_text=True),
        Column("state", is_text=True),
        Column("finding", is_text=True, wraps=True),
    )
    styles = {Readiness.OK: "green", Readiness.NOTE: "yellow", Readiness.FAIL: "bold red"}
    rows = [
        (item.subject, Cell(item.verdict.value, style=styles[item.verdict]), item.text) for item in findings
    ]
    print_table(console, Table(columns, rows))
    failed = [finding.subject for finding in findings if finding.verdict is Readiness.FAIL]
    if failed:
        console.print(f"Not ready: {', '.join(failed)}.", style="bold red")
        raise typer.Exit(1)
    console.print("Ready: pagedbench run works on this machine.", style="bold green")
