"""`pagedbench trace`: look at traces, convert files, sample lengths, fetch the real text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.workload.dataset import Dataset
    from pagedbench.workload.rows import Row

app = typer.Typer(help="List, show, import, synthesize or fetch traces.")

Tokenizer = Annotated[
    str | None, typer.Option("--tokenizer", help="Folder, tokenizer.json or hub id; needed for text.")
]
BlockSize = Annotated[
    int | None,
    typer.Option(
        "--block-size",
        "--trace-block-size",
        min=1,
        max=1_000_000,
        help="Tokens per block of a trace whose block hashes come without a size [512, as in Mooncake's].",
    ),
]
TraceFile = Annotated[
    Path,
    typer.Option(
        "--output", help="The file to write: .csv or .jsonl, also .gz; block hashes and turns need .jsonl."
    ),
]


@app.callback(invoke_without_command=True)
def _start(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_traces() -> None:
    """List the traces that come with pagedbench."""
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.show.table import print_table
    from pagedbench.tools.trace.lengths import list_table
    from pagedbench.workload.bundled import NAMES
    from pagedbench.workload.dataset import load_dataset

    print_table(stdout_console(COMPARE_WIDTH), list_table([load_dataset(name) for name in NAMES]))


@app.command()
def show(
    trace: Annotated[str, typer.Argument(help="A bundled trace, a file or folder, or a hub id.")],
    tokenizer: Tokenizer = None,
    block_size: BlockSize = None,
) -> None:
    """Show a trace: lengths, arrivals, sessions, and the share of prompts that occurred before."""
    from pagedbench.show.console import is_ascii, stdout_console
    from pagedbench.show.table import facts, print_table
    from pagedbench.tools.trace.lengths import dataset_rows, histograms_table, lengths_table
    from pagedbench.tools.trace.traffic import portions_table, traffic_rows
    from pagedbench.workload.dataset import load_dataset
    from pagedbench.workload.traffic_summary import portions_of, reuse_of

    dataset, console = load_dataset(trace, tokenizer, block_size=block_size), stdout_console()
    _refuse_idle(tokenizer, block_size, dataset)
    portions = portions_of(dataset.rows)
    reuse = reuse_of(dataset.rows, portions)
    is_timed = all(row.arrival_time is not None for row in dataset.rows)
    print_table(console, facts([*dataset_rows(dataset), *traffic_rows(dataset.rows, reuse)]))
    print_table(console, lengths_table(dataset))
    print_table(console, histograms_table(dataset, ascii_only=is_ascii(console)))
    if is_timed or reuse is not None:
        has_blocks = reuse is not None
        table = portions_table(
            portions, is_timed=is_timed, has_blocks=has_blocks, ascii_only=is_ascii(console)
        )
        print_table(console, table)


@app.command("import")
def import_trace(
    trace: Annotated[
        str, typer.Argument(help="A file or folder in any format that --trace reads, or a hub id.")
    ],
    output: TraceFile,
    tokenizer: Tokenizer = None,
    block_size: BlockSize = None,
) -> None:
    """Convert a trace to pagedbench's own CSV, or to JSONL, which keeps block hashes and turns."""
    from pagedbench.workload.dataset import load_dataset

    dataset = load_dataset(trace, tokenizer, block_size=block_size)
    _refuse_idle(tokenizer, block_size, dataset)
    _write(dataset.rows, output)
    left_out = f"; {dataset.num_unreadable:,} records that lack a prompt or a reply were left out"
    print(f"Wrote {len(dataset.rows):,} rows to {output}{left_out if dataset.num_unreadable else ''}")


@app.command()
def synth(
    name: Annotated[
        str,
        typer.Argument(
            metavar="SET", help="sharegpt, alpaca, sharegpt-8k, synthetic, bursty, agentic or prefix-tree."
        ),
    ],
    output: TraceFile,
    rows: Annotated[int, typer.Option("--rows", help="Number of requests.")] = 20_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed samples other lengths.")] = 0,
) -> None:
    """Sample a trace from published distributions: only lengths, bursts, sessions, or shared prefixes."""
    from pagedbench.workload.bundled import TRAFFIC_FILES
    from pagedbench.workload.synth import synthesize
    from pagedbench.workload.synth_traffic import synthesize_traffic

    sampled = (
        synthesize_traffic(name, rows, seed) if name in TRAFFIC_FILES else synthesize(name, rows, seed)
    )
    _write(sampled, output)
    print(f"Wrote {len(sampled):,} rows to {output}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="sharegpt or alpaca.")],
    output: Annotated[Path, typer.Option("--output", help="A file or a folder.")] = Path(),
) -> None:
    """Download the real text of a data set."""
    from pagedbench.workload.hub import fetch as download

    print(f"Wrote {download(name, output)}")


def _refuse_idle(tokenizer: str | None, block_size: int | None, dataset: Dataset) -> None:
    from pagedbench.config import ConfigError

    if tokenizer is not None and not dataset.is_text:
        raise ConfigError(f"--tokenizer has no effect: {dataset.name} holds no text to count tokens of")
    sizes = {row.blocks.size for row in dataset.rows if row.blocks is not None}
    if block_size is not None and block_size not in sizes:
        reason = "states its block size itself" if sizes else "holds no block hashes"
        raise ConfigError(f"--block-size has no effect: {dataset.name} {reason}")


def _write(rows: Sequence[Row], output: Path) -> None:
    """Write a new trace, in the format of its file name.

    Raises:
        ConfigError: the file exists, or its format cannot keep what the rows hold.
    """
    from pagedbench.config import ConfigError
    from pagedbench.workload.lengths_csv import write_lengths
    from pagedbench.workload.readers.own_lines import write_own

    if output.exists():  # a trace that runs were measured with must keep its content
        raise ConfigError(f"--output {output} exists: remove it, or choose another name")
    if output.name.endswith((".jsonl", ".jsonl.gz")):
        write_own(rows, output)
        return
    if any(row.blocks is not None or row.turn is not None for row in rows):
        raise ConfigError(
            f"--output {output}: a CSV cannot keep the block hashes and turns of this trace: "
            "give a name that ends in .jsonl or .jsonl.gz"
        )
    write_lengths(rows, output)
