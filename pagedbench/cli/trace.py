"""`pagedbench trace`: look at traces, convert files, sample lengths, fetch the real text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pagedbench.workload.dataset import Dataset

app = typer.Typer(help="List, show, import, synthesize or fetch traces.")

Tokenizer = Annotated[
    str | None, typer.Option("--tokenizer", help="Folder, tokenizer.json or hub id; needed for text.")
]
OutputFile = Annotated[Path, typer.Option("--output", help="The CSV to write; .gz compresses it.")]


@app.callback(invoke_without_command=True)
def _start(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_traces() -> None:
    """List the traces that come with pagedbench."""
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.show.lengths import list_table
    from pagedbench.show.table import print_table
    from pagedbench.workload.bundled import SETS
    from pagedbench.workload.dataset import load_dataset

    print_table(stdout_console(COMPARE_WIDTH), list_table([load_dataset(name) for name in SETS]))


@app.command()
def show(
    trace: Annotated[str, typer.Argument(help="A bundled trace, a file, or a hub id.")],
    tokenizer: Tokenizer = None,
) -> None:
    """Show a trace's lengths: means, percentiles and a histogram."""
    from pagedbench.show.console import is_ascii, stdout_console
    from pagedbench.show.lengths import dataset_rows, histograms_table, lengths_table
    from pagedbench.show.table import facts, print_table
    from pagedbench.workload.dataset import load_dataset

    dataset, console = load_dataset(trace, tokenizer), stdout_console()
    _refuse_idle(tokenizer, dataset)
    print_table(console, facts(dataset_rows(dataset)))
    print_table(console, lengths_table(dataset))
    print_table(console, histograms_table(dataset, ascii_only=is_ascii(console)))


@app.command("import")
def import_trace(
    trace: Annotated[str, typer.Argument(help="A file in any format that --trace reads, or a hub id.")],
    output: OutputFile,
    tokenizer: Tokenizer = None,
) -> None:
    """Count a trace's lengths once and keep them as pagedbench's own CSV."""
    from pagedbench.workload.dataset import load_dataset
    from pagedbench.workload.lengths_csv import write_lengths

    dataset = load_dataset(trace, tokenizer)
    _refuse_idle(tokenizer, dataset)
    _refuse_existing(output)
    write_lengths(dataset.rows, output)
    left_out = f"; {dataset.num_unreadable:,} records without a prompt and a reply were left out"
    print(f"Wrote {len(dataset.rows):,} rows to {output}{left_out if dataset.num_unreadable else ''}")


@app.command()
def synth(
    name: Annotated[str, typer.Argument(metavar="SET", help="sharegpt, alpaca or synthetic.")],
    output: OutputFile,
    rows: Annotated[int, typer.Option("--rows", help="How many.")] = 20_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed samples other lengths.")] = 0,
) -> None:
    """Sample lengths from the published quantiles of a data set."""
    from pagedbench.workload.lengths_csv import write_lengths
    from pagedbench.workload.synth import synthesize

    sampled = synthesize(name, rows, seed)
    _refuse_existing(output)
    write_lengths(sampled, output)
    print(f"Wrote {len(sampled):,} rows to {output}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="sharegpt or alpaca.")],
    output: Annotated[Path, typer.Option("--output", help="A file or a folder.")] = Path(),
) -> None:
    """Download the real text of a data set."""
    from pagedbench.workload.hub import fetch as download

    print(f"Wrote {download(name, output)}")


def _refuse_idle(tokenizer: str | None, dataset: Dataset) -> None:
    from pagedbench.config import ConfigError

    if tokenizer is not None and not dataset.is_text:
        raise ConfigError(f"--tokenizer has no effect: {dataset.name} holds no text to count tokens of")


def _refuse_existing(output: Path) -> None:
    """A trace that is measured with must not change under its name."""
    from pagedbench.config import ConfigError

    if output.exists():
        raise ConfigError(f"--output {output} exists: remove it, or choose another name")
