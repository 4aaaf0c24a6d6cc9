"""`pagedbench reproduce`: a figure of the paper, from the real scheduler in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

    from pagedbench.paper.claim import Claim
    from pagedbench.workload.dataset import Dataset

FORMATS = ("rich", "json", "csv", "md")


def reproduce(
    figure: Annotated[str, typer.Argument(help="fig2, fig13a, fig15a, fig15b, or all.")],
    trace: Annotated[
        str | None,
        typer.Option(help="Lengths of your own, such as the authors' file \\[the bundled ones]."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of the paper's arrival generator; theirs is 0.", min=0, max=2**32 - 1)
    ] = 0,
    format: Annotated[str, typer.Option(help="What stdout shows: rich, json, csv, md.")] = "rich",
) -> None:
    """Reproduce a figure of the paper: its set-up, its own arrivals, its numbers beside ours.

    Runs the real schedulers and memory managers in virtual time. Nothing is loaded or computed by a model.
    """
    from pagedbench.paper.figures import FIGURES
    from pagedbench.workload.dataset import load_dataset

    if format not in FORMATS:
        raise ConfigError(f"--format is one of {', '.join(FORMATS)}, not {format!r}")
    if figure not in (*FIGURES, "all"):
        raise ConfigError(f"unknown figure {figure!r}: choose from {', '.join(FIGURES)} or all")
    claims: list[Claim] = []
    for name in FIGURES if figure == "all" else (figure,):
        module = FIGURES[name]
        dataset = load_dataset(trace or module.TRACE)
        own = list(module.claims(dataset.rows, seed, are_drawn=dataset.synthetic))
        claims += own
        if format == "rich":
            _print_figure(module, dataset, own, seed)
    if format != "rich":
        _print_rows([_row(claim) for claim in claims], format)


def _row(claim: Claim) -> dict[str, Any]:
    return {
        "figure": claim.figure,
        "system": claim.system,
        "quantity": claim.quantity,
        "unit": claim.unit,
        "paper": claim.paper,
        "ours": round(claim.ours, 4),
        "tolerance": str(claim.tolerance),
        "verdict": "holds" if claim.holds else "missed",
    }


def _print_rows(rows: list[dict[str, Any]], format: str) -> None:
    import json

    import pandas as pd

    if format == "json":
        typer.echo(json.dumps(rows, indent=2))
        return
    if format == "csv":
        typer.echo(pd.DataFrame(rows).to_csv(index=False), nl=False)
        return
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    typer.echo("\n".join(lines))


def _print_figure(module: ModuleType, dataset: Dataset, claims: list[Claim], seed: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from pagedbench.report.console import print_whole, stdout_console

    experiment = module.EXPERIMENT
    plan = experiment.plan(experiment.systems[0])
    table = Table(title=module.TITLE, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("system", "quantity"):
        table.add_column(heading, no_wrap=True)
    for heading in ("paper", "ours", "off by", "allowed", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    for claim in claims:
        verdict = "[green]holds[/]" if claim.holds else "[red]missed[/]"
        off_by = f"{claim.ours - claim.paper:+.2f}"
        numbers = (f"{claim.paper:.2f}", f"{claim.ours:.2f}", off_by, f"±{claim.tolerance}")
        table.add_row(claim.system, claim.quantity, *numbers, verdict)
    start, end = experiment.window
    console = stdout_console()
    print_whole(console, table)
    console.print(
        f"Simulated: {plan.shape.name} on {plan.device_name}; {plan.num_blocks} blocks; "
        f"{experiment.rate:g} requests/s, iterations from {start:g} to {end:g} s, seed {seed}.\n"
        f"Step times: {plan.cost_model}.\nLengths: {dataset.source}\n{module.NOTE}",
        highlight=False,
        soft_wrap=True,
    )
    if dataset.synthetic:
        console.print(
            "The lengths are drawn from published quantiles, so the picture is the paper's, not every "
            "digit: --trace FILE takes the authors' own lengths.",
            highlight=False,
            soft_wrap=True,
        )
    missed = sum(not claim.holds for claim in claims)
    console.print(f"{len(claims) - missed} of {len(claims)} numbers hold.", highlight=False)
