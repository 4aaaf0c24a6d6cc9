"""`pagedbench kernels`: the time of each op: paged, contiguous, plain PyTorch, and the machine's limit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.runs.exit_codes import INTERRUPTED
from pagedbench.tools.kernels.options import OPS, KernelOptions, read_options

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.runs.interrupts import Interrupts
    from pagedbench.runs.machine_load import Load
    from pagedbench.tools.kernels.cases import Setup
    from pagedbench.tools.kernels.plan import Planned

    Row = dict[str, object]


def kernels(
    typed: typer.Context,
    op: Annotated[str, typer.Option(help=f"all, or a comma-separated list of {', '.join(OPS)}.")] = "all",
    context: Annotated[
        str | None, typer.Option(help="Tokens per sequence; comma-separated \\[64,256,1024,4096].")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Sequences; comma-separated \\[1,8,32].")] = None,
    block_size: Annotated[str, typer.Option(help="Tokens per block; comma-separated.")] = "16",
    model: Annotated[
        str, typer.Option(help="The model whose heads and widths are used: built-in shape or folder.")
    ] = "opt-125m",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    kv_dtype: Annotated[
        str, typer.Option(help="Keys and values in the pool: auto (as --dtype), int8, or auto,int8.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda.")] = "auto",
    kernels: Annotated[
        str | None, typer.Option(help="Comma-separated \\[the fastest that runs here, and reference].")
    ] = None,
    repeats: Annotated[
        str | None, typer.Option(help="Number of rounds; each times every variant once \\[15].")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One size of each op, in few rounds.")] = False,
    format: Annotated[str, typer.Option(help="What stdout shows: rich, json, csv, md.")] = "rich",
    output: Annotated[
        str | None, typer.Option(help="Write kernels.csv and manifest.json into this folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what --output holds.")] = False,
) -> None:
    """Time each op: paged, contiguous, plain PyTorch, and the machine's limits (paper: Fig. 18a).

    Every output is compared with the definition before it is timed. Keys, values and weights come from
    memory: calls rotate through more of them than the last-level cache holds. Blocks are shuffled.
    """
    raise typer.Exit(_run(read_options(typed.params)))


def _run(options: KernelOptions) -> int:
    from pagedbench.runs.files import check_folder
    from pagedbench.runs.names import check_backend

    check_backend(options.device, options.model)
    if options.output is not None:
        check_folder(options.output, force=options.force)
    from pagedbench.clock import utc_text
    from pagedbench.runs.interrupts import Interrupts
    from pagedbench.runs.machine_load import load_meter
    from pagedbench.show.console import say, stdout_console
    from pagedbench.tools.kernels.bench import COLUMNS
    from pagedbench.tools.kernels.plan import check_memory, make_setup, plan_cases
    from pagedbench.tools.kernels.report import kernels_document, print_kernels

    setup = make_setup(options)
    cases, left_out = plan_cases(options.ops, options.batches, options.contexts, options.kv_dtypes)
    check_memory(cases, setup)
    started = utc_text()
    with Interrupts(lambda: None) as interrupts:
        meter = load_meter(setup.device)
        rows = _measure(options, setup, cases, interrupts)
        load = None if meter is None else meter.read()
    if load is not None and load.is_busy:
        print(load.sentence, file=sys.stderr)
    if options.format == "rich":
        console = stdout_console()
        print_kernels(console, rows)
        for sentence in _sentences(options, setup, rows, left_out):
            say(console, sentence)
    else:
        sys.stdout.write(kernels_document(rows, COLUMNS, options.format))
    if options.output is not None:
        status = "interrupted" if interrupts.received else "complete"
        _save(options, options.output, rows, started, status, load)
    return INTERRUPTED if interrupts.received else 0


def _measure(
    options: KernelOptions, setup: Setup, cases: list[Planned], interrupts: Interrupts
) -> list[Row]:
    """The rows of all cases, or of those that were complete before an interrupt."""
    from dataclasses import asdict

    from pagedbench.runs.stopwatch import stopwatch_of
    from pagedbench.show.console import stderr_console
    from pagedbench.tools.kernels.bench import KernelBench
    from pagedbench.tools.kernels.machine_limits import limit_probe

    rows: list[Row] = []
    with stderr_console().status("measuring the machine") as status:
        bench = KernelBench(
            setup,
            limit_probe(setup.device, setup.footprint),
            stopwatch_of(setup.device),
            rounds=options.rounds,
            sample_time=options.sample_time,
        )
        for number, case in enumerate(cases, start=1):
            if interrupts.received:
                break
            status.update(f"{number}/{len(cases)} {case.op}, batch {case.batch}, context {case.context}")
            rows += [asdict(measurement) for measurement in bench.measure(case)]
    return rows


def _sentences(options: KernelOptions, setup: Setup, rows: list[Row], left_out: list[Planned]) -> list[str]:
    """How the numbers were measured, and which of them cannot be trusted."""
    from pagedbench.ops.device import describe_device
    from pagedbench.runs.numbers import counted, gibibytes
    from pagedbench.tools.kernels.plan import MAX_TOKENS

    sentences = [
        f"{describe_device(setup.device)}; {str(setup.dtype).removeprefix('torch.')}; heads and widths of "
        f"{options.model}.",
        _limits_sentence(rows),
        f"Operands come from memory: calls rotate through at least {gibibytes(setup.footprint)} of them. "
        "Blocks are shuffled; variants are interleaved; every output was compared with the definition.",
        "Times over contiguous and over torch are medians of ratios within a round: below 1 is faster.",
    ]
    disturbed = [row for row in rows if row["disturbed"]]
    if disturbed:
        worst = disturbed[0]
        sentences.append(
            f"Other load on the machine disturbed {len(disturbed)} of {counted(len(rows), 'measurement')} "
            f"in every repetition; do not trust them. For example, {worst['op']} by {worst['kernels']}: "
            f"{worst['disturbed']}."
        )
    if left_out:
        ops = ", ".join(dict.fromkeys(case.op for case in left_out))
        count = counted(len(left_out), "case")
        sentences.append(f"Left out: {count} of {ops}, with more than {MAX_TOKENS:,} tokens per call.")
    return sentences


def _limits_sentence(rows: list[Row]) -> str:
    """The range of each limit, which may change during the run."""
    from pagedbench.runs.numbers import number

    ranges = []
    for name, unit in (("limit_gb_per_s", "GB/s read"), ("limit_gflop_per_s", "GFLOP/s")):
        found = [value for row in rows if isinstance(value := row[name], float)]
        if found:
            least, most = number(min(found)), number(max(found))
            ranges.append(f"{least if least == most else f'{least} to {most}'} {unit}")
    if not ranges:
        return "The machine's limits were not measured: the native module has no probes here."
    return f"The machine's limits, measured together with the cases: {', '.join(ranges)}."


def _save(
    options: KernelOptions, folder: Path, rows: list[Row], started: str, status: str, load: Load | None
) -> None:
    from dataclasses import asdict

    from pagedbench.clock import utc_text
    from pagedbench.runs.files import json_text, write_files
    from pagedbench.runs.machine import provenance
    from pagedbench.runs.summary import SCHEMA_VERSION
    from pagedbench.tools.kernels.bench import COLUMNS
    from pagedbench.tools.kernels.report import kernels_document

    asked = {name: value for name, value in asdict(options).items() if name not in ("output", "force")}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "started": started,
        "ended": utc_text(),
        **provenance(),
        "machine_load": None if load is None else load.document(),
        "options": asked,
    }
    texts = {"kernels.csv": kernels_document(rows, COLUMNS, "csv"), "manifest.json": json_text(manifest)}
    placed = write_files(texts, folder, force=options.force)
    print(f"Saved to {placed}", file=sys.stderr)
