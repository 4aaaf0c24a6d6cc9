"""`pagedbench reproduce`: figures of the paper, from the real schedulers in virtual time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.runs.workers import ExecutorOption, RayAddress, checked_workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.tools.paper.figure import Figure
    from pagedbench.tools.paper.lengths import Lengths

FORMATS = ("rich", "json", "csv", "md")
ENGINES = "engines"


Figures = Annotated[
    list[str],
    typer.Argument(
        metavar="FIGURE...",
        help="fig1, fig2, fig11, fig12a to f, fig13a and b, fig14a to f, fig15a and b, fig16a and b, "
        "fig17, fig18a and b, fig19a and b; fig12: all its panels; all: all figures. Claims since the "
        "paper: watermark, victims, admission, chunked-prefill, hit-rates, windows, pages; field: all of "
        "these. engines: the simulator compared with the published throughput of whole engines.",
        show_default=False,
    ),
]
Traces = Annotated[
    list[str] | None,
    typer.Option(
        help="Your own lengths, such as the authors' file: FILE for the figure's data set, or "
        "sharegpt=FILE, alpaca=FILE, sharegpt-8k=FILE \\[the bundled ones]; conversation=FILE and "
        "synthetic=FILE for hit-rates.",
        show_default=False,
    ),
]
PublishedFile = Annotated[
    str | None,
    typer.Option(
        help="For engines: CSV of published figures (source, model, card, tensor_parallel, prompt_len, "
        "output_len, load, metric, value).",
        show_default=False,
    ),
]
Seed = Annotated[
    int, typer.Option(help="Seed of the paper's arrivals; the authors' is 0.", min=0, max=2**32 - 100)
]
Seeds = Annotated[
    int, typer.Option(help="Number of seeds, from --seed on, for ratios of rates.", min=1, max=100)
]
MaxNumSeqs = Annotated[
    int | None,
    typer.Option(
        help="Most sequences per iteration, for every system \\[the authors' limits: 2048 for paged, 256 "
        "for the others].",
        min=1,
        show_default=False,
    ),
]
Jobs = Annotated[int | None, typer.Option(help="Processes \\[one per core].", show_default=False)]
Output = Annotated[
    str | None,
    typer.Option(
        help="Folder for CSV, PNG, SVG and the scorecard \\[results/<time>_reproduce].", show_default=False
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the results in that folder.")]
Format = Annotated[str, typer.Option(help="What stdout shows: rich, json, csv, md.")]
Progress = Annotated[str, typer.Option(help="auto, rich, plain, none.")]


def reproduce(
    figures: Figures,
    trace: Traces = None,
    published: PublishedFile = None,
    seed: Seed = 0,
    seeds: Seeds = 5,
    max_num_seqs: MaxNumSeqs = None,
    jobs: Jobs = None,
    executor: ExecutorOption = "local",
    ray_address: RayAddress = None,
    output: Output = None,
    force: Force = False,
    format: Format = "rich",
    progress: Progress = "auto",
) -> None:
    """Reproduce figures of the paper, and later claims of the field: published numbers and ours.

    An interrupted reproduction resumes: the same command with the same --output computes only the rest.

    Runs the real schedulers and memory managers in virtual time; no model is loaded. Only fig18a measures
    something: the kernels on this machine.
    """
    from pagedbench.tools.paper.figure import Options
    from pagedbench.tools.paper.session import run_reproduction

    if format not in FORMATS:
        raise ConfigError(f"--format is one of {', '.join(FORMATS)}, not {format!r}")
    if progress not in ("auto", "rich", "plain", "none"):
        raise ConfigError(f"--progress is one of auto, rich, plain, none, not {progress!r}")
    folder = None if output is None else Path(output).expanduser()
    if figures == [ENGINES]:
        _reproduce_engines(published, folder, force=force)
        return
    if published is not None:
        raise ConfigError(f"--published has no effect without the figure {ENGINES}")
    chosen = _chosen(figures)
    lengths = lengths_of(trace or [], chosen)
    chosen = [figure for figure in chosen if _has_files(figure, lengths, is_alone=len(chosen) == 1)]
    options = Options(lengths, seed, seeds, max_num_seqs)
    workers = checked_workers(executor, ray_address, jobs, is_simulated=True)
    place = _checked_place(folder, chosen, force=force)
    raise typer.Exit(run_reproduction(chosen, options, workers, place, format, progress, force=force))


def _checked_place(folder: Path | None, figures: Sequence[Figure], *, force: bool) -> Path:
    """The folder of the results: a writable one, or one with an unfinished reproduction.

    Raises:
        ConfigError: it is not writable, or contains something else or figures that were not asked for.
    """
    from pagedbench.clock import utc_text
    from pagedbench.runs.checkpoint import is_unfinished
    from pagedbench.runs.file_names import dated_folder
    from pagedbench.runs.files import check_default_place, check_folder

    if folder is None:
        check_default_place()
        return dated_folder("reproduce", utc_text())
    goes_on = not force and is_unfinished(folder)
    check_folder(folder, force=force or goes_on)
    if goes_on and (others := _finished(folder) - {figure.name for figure in figures}):
        raise ConfigError(
            f"{folder} has an unfinished reproduction with {', '.join(sorted(others))}: name all of its "
            "figures to resume it, or replace it with --force"
        )
    return folder


def _finished(folder: Path) -> set[str]:
    """Names of the figures that a folder has."""
    try:
        return set(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["figures"])
    except (OSError, ValueError, KeyError):
        return set()  # none was complete


def _reproduce_engines(published: str | None, folder: Path | None, *, force: bool) -> None:
    from pagedbench.tools.paper.engines import reproduce_engines

    if published is None:
        raise ConfigError("reproduce engines needs --published FILE, a CSV of published figures")
    reproduce_engines(Path(published).expanduser(), folder, force=force)


def _chosen(names: list[str]) -> list[Figure]:
    from pagedbench.tools.paper.figures import FIELD, FIGURES, find_figures

    words = [word for name in names for word in name.split(",") if word]
    found = find_figures(words)
    if isinstance(found, str):
        raise ConfigError(
            f"unknown figure {found!r}: choose from {', '.join((*FIGURES, *FIELD))}, all or field"
        )
    return found


def lengths_of(traces: Sequence[str], figures: Sequence[Figure]) -> Lengths:
    """The data sets of `--trace`, each read once to check that this is possible.

    Raises:
        ConfigError: it is unclear which data set a file stands for, or no figure replays it.
        TraceError: a file cannot be read.
    """
    from pagedbench.tools.paper.lengths import FROM_FILES, WITH_BLOCKS, Lengths

    replayed = [name for name in FROM_FILES if any(name in figure.traces for figure in figures)]
    files: dict[str, str] = {}
    for text in traces:
        name, separator, path = text.partition("=")
        if not separator or name not in FROM_FILES:
            mains = {figure.traces[0] for figure in figures if figure.traces}
            if len(mains) != 1:
                raise ConfigError(
                    f"these figures replay {', '.join(replayed) or 'no data set'}: say which one {text} "
                    f"stands for, as in --trace {replayed[0] if replayed else 'sharegpt'}={text}"
                )
            name, path = mains.pop(), text
        if name not in replayed:
            raise ConfigError(f"--trace {text} has no effect: these figures do not replay {name}")
        if name in files:
            raise ConfigError(f"--trace names two files for {name}: keep one of them")
        files[name] = path
    lengths = Lengths(tuple(sorted(files.items())))
    for name in files:
        rows = lengths.rows(name)
        if name in WITH_BLOCKS and any(row.blocks is None for row in rows):
            raise ConfigError(f"{files[name]} has no block ids, which the trace {name} needs")
    return lengths


def _has_files(figure: Figure, lengths: Lengths, *, is_alone: bool) -> bool:
    """Can the figure be made? If its files were not given, it is left out with a message.

    Raises:
        ConfigError: no other figure is left.
    """
    from pagedbench.tools.paper.lengths import WITH_BLOCKS

    if figure.traces != WITH_BLOCKS or any(map(lengths.has_file, WITH_BLOCKS)):
        return True
    words = (
        f"{figure.name} replays Mooncake's {' and '.join(WITH_BLOCKS)} traces, which are not bundled: give "
        f"their files, as in --trace {WITH_BLOCKS[0]}=FILE"
    )
    if is_alone:
        raise ConfigError(words)
    print(f"Left out: {words}.", file=sys.stderr)
    return False
