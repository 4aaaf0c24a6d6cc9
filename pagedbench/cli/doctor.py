"""`pagedbench doctor`: what this machine has, and whether a run would work on it."""

from __future__ import annotations

import typer


def doctor() -> None:
    """Say whether this machine is ready: exit code 0, or 1 if a run would fail."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pagedbench.cli.checks import all_findings
    from pagedbench.show.console import stdout_console

    console = stdout_console()
    findings = all_findings()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("finding", overflow="fold")
    styles = {"ok": "green", "note": "yellow", "FAIL": "bold red"}
    for finding in findings:
        verdict = Text(finding.verdict, style=styles[finding.verdict])
        table.add_row(finding.subject, verdict, Text(finding.text))
    console.print(table)
    failed = [finding.subject for finding in findings if finding.verdict == "FAIL"]
    if failed:
        console.print(f"Not ready: {', '.join(failed)}.", style="bold red")
        raise typer.Exit(1)
    console.print("Ready: pagedbench run works on this machine.", style="bold green")
