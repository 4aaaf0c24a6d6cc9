"""`pagedbench doctor`: what this machine has, whether a run works on it, and the simulator's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pagedbench.show.table import Table
    from pagedbench.simulation.operator_times import Accuracy


def doctor(
    models: Annotated[
        bool,
        typer.Option("--models", help="List the built-in models with their sizes and KV bytes instead."),
    ] = False,
    cards: Annotated[
        bool,
        typer.Option("--cards", help="List the simulated cards and how far they were verified instead."),
    ] = False,
) -> None:
    """Say whether this machine is ready: exit code 0, or 1 if a run would fail."""
    if models or cards:
        _list(models=models, cards=cards)
        return
    from pagedbench.cli.checks import Readiness, all_findings
    from pagedbench.show.console import say, stdout_console
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
    print_table(console, accuracy_table())
    say(
        console,
        "Errors of the simulated cards' times, by cost model: whole decode steps, and layers without "
        "attention (pagedbench calibrate --operator-times measures them). Other cards were not measured: "
        "doctor --cards says whose kernels they are given.",
    )
    failed = [finding.subject for finding in findings if finding.verdict is Readiness.FAIL]
    if failed:
        console.print(f"Not ready: {', '.join(failed)}.", style="bold red")
        raise typer.Exit(1)
    console.print("Ready: pagedbench run works on this machine.", style="bold green")


def _list(*, models: bool, cards: bool) -> None:
    from pagedbench.cli.inventory import CARDS_NOTE, MODELS_NOTE, cards_table, models_table
    from pagedbench.show.console import COMPARE_WIDTH, say, stdout_console
    from pagedbench.show.table import print_table

    console = stdout_console(COMPARE_WIDTH)
    if models:
        print_table(console, models_table())
        say(console, MODELS_NOTE)
    if cards:
        print_table(console, cards_table())
        say(console, CARDS_NOTE)


def accuracy_table() -> Table:
    """The median errors of the cost models by card, kernel and number of ranks."""
    from pagedbench.show.table import Column, Table
    from pagedbench.simulation.a100_times import HELD_OUT_LAYERS
    from pagedbench.simulation.modern_times import DECODE_STEPS, HELD_OUT

    cards = tuple(HELD_OUT)
    columns = (Column("median error", is_key=True, is_text=True), *(Column(card.upper()) for card in cards))
    rows = [
        (f"modern: {kernel}", *(_medians(HELD_OUT[card][kernel]) for card in cards))
        for kernel in HELD_OUT[cards[0]]
    ]
    ranks = ", ".join(map(str, HELD_OUT_LAYERS))
    steps = (_medians(*DECODE_STEPS[card].values()) for card in cards)
    rows.append((f"modern: steps on {ranks} ranks", *steps))
    rows.append((f"vllm-2023: layers on {ranks} ranks", _medians(*HELD_OUT_LAYERS.values()), ""))
    return Table(columns, rows)


def _medians(*errors: Accuracy) -> str:
    return ", ".join(f"{100 * error.median:.1f}" for error in errors) + "%"
