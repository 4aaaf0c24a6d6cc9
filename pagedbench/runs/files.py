"""Writing run folders and other results: each appears as a whole, or not at all.

Modules that need numpy are imported inside functions, so that paths can be checked before anything heavy.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.runs.file_names import dated_folder, is_ours, numbered, ours_in
from pagedbench.runs.remains import clear_remains, hidden_path, own_mark, removed_afterwards
from pagedbench.runs.toml import config_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pagedbench.runs.result import Result

MAX_NAME_LEN = 200  # bytes; file systems allow 255, and the hidden name of an incomplete folder is longer

LONG_RUN = 50_000  # iterations; fewer are written sooner than another process begins


class ReportError(Exception):
    """A finished run could not be saved. One sentence."""


def default_folder(name: str, started: str) -> Path:
    """results/<time>_<name>, see `dated_folder`. `name`: a name for the run."""
    return dated_folder(name, started)


def check_folder(folder: Path, *, force: bool) -> None:
    """Refuse a folder in which a run cannot be saved; to be called before the run starts.

    Raises:
        ConfigError: the folder is a file, is not empty (without `force`), or cannot be made.
    """
    try:
        target = folder.resolve()
        if target.exists():
            _check_existing(folder, target, force=force)
        parent = target if _must_stay(target) else _first_existing(target.parents)
        is_open = _is_writable(parent)
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links
        raise ConfigError(f"--output {folder} cannot be used: {_reason(error)}") from error
    if len(os.fsencode(target.name)) > MAX_NAME_LEN:
        raise ConfigError(f"--output has a name of more than {MAX_NAME_LEN} bytes: choose a shorter one")
    if not is_open:
        raise ConfigError(f"--output {folder} cannot be made: {parent} is not a writable folder")


def _check_existing(folder: Path, target: Path, *, force: bool) -> None:
    if not target.is_dir():
        raise ConfigError(f"--output {folder} is a file: name a folder")
    if not any(target.iterdir()):
        return
    if not force:
        raise ConfigError(
            f"--output {folder} is not empty: choose another folder, or replace the run in it with --force"
        )
    if Path.cwd().is_relative_to(target):
        raise ConfigError(f"--force cannot replace {folder} from inside: go to another folder first")


def check_default_place() -> None:
    """Refuse a current folder in which `results` cannot be written; to be called before the first run.

    Raises:
        ConfigError: `results` in the current folder is a file or not writable.
    """
    try:
        place = Path("results").resolve()
        place = place if place.exists() else place.parent
        is_open = _is_writable(place)
    except OSError as error:  # the current folder was removed
        raise ConfigError(f"the current folder cannot be used: {_reason(error)}; use --output") from error
    if not is_open:
        raise ConfigError(f"results cannot be saved: {place} is not a writable folder; use --output")


def check_files(paths: Iterable[Path], *, force: bool) -> None:
    """Refuse files that cannot be written; to be called before the work.

    Raises:
        ConfigError: one exists already (without `force`), or its folder cannot be made.
    """
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder: name a file with --output")
        if path.exists() and not force:
            raise ConfigError(f"{path} exists: choose another --output, or replace it with --force")
        parent = _first_existing(path.absolute().parents)
        if not _is_writable(parent):
            raise ConfigError(f"{path} cannot be made: {parent} is not a writable folder")


def _first_existing(folders: Iterable[Path]) -> Path:
    return next(folder for folder in folders if folder.exists())


def _is_writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def write_run(result: Result, folder: Path, *, force: bool, save_outputs: bool) -> Path:
    """Save a run as `write_folder` does, and return where it is."""

    def write(hidden: Path) -> None:
        from pagedbench.runs.beside import beside
        from pagedbench.runs.columns import csv_lines, step_columns

        def write_steps() -> None:
            write_lines("steps.csv", csv_lines(step_columns(result.record)))

        def write_lines(name: str, lines: Iterable[str]) -> None:
            with (hidden / name).open("w", encoding="utf-8", errors="replace", newline="\n") as file:
                file.writelines(lines)

        with beside(write_steps, is_worth_it=len(result.record.steps) > LONG_RUN):
            for name, lines in _contents(result, save_outputs=save_outputs):
                write_lines(name, lines)
        if result.events is not None:
            from pagedbench.runs.events_file import write_events

            write_events(result, hidden)

    return write_folder(folder, write, force=force)


def _contents(result: Result, *, save_outputs: bool) -> Iterator[tuple[str, Iterable[str]]]:
    """Name and lines of every file but steps.csv, the manifest last: without it a run is incomplete."""
    from pagedbench.runs import columns
    from pagedbench.runs.manifest import manifest_document
    from pagedbench.runs.result import summary_row
    from pagedbench.runs.summary import summary_document

    record, row = result.record, summary_row(result)
    server = result.server
    yield "config.toml", [config_toml(result.plan.config, None if server is None else server.options)]
    yield "summary.json", [json_text(summary_document(result))]
    yield "summary.csv", [csv_text(tuple(row), [row])]
    yield "requests.csv", columns.csv_lines(columns.request_columns(record))
    if server is not None and server.samples is not None:
        yield "server.csv", columns.csv_lines(dict(server.samples))
    if record.preemptions:
        yield "preemptions.csv", columns.csv_lines(columns.preemption_columns(record))
    if result.events is not None and (costs := result.events.eviction_costs.rows()):
        yield "evictions.csv", columns.csv_lines(columns.eviction_columns(costs, record))
    if save_outputs:
        yield "outputs.jsonl", columns.output_lines(record, result.plan.shape.vocab_size)
    yield "manifest.json", [json_text(manifest_document(result))]


def write_files(contents: Mapping[str, str | bytes], folder: Path, *, force: bool) -> Path:
    """Save files, by name, as `write_folder` does. Their names must be known to `is_ours`."""
    assert all(map(is_ours, contents)), "a file with an unknown name could not be replaced later"

    def write(hidden: Path) -> None:
        for name, content in contents.items():
            text = content.encode(errors="replace") if isinstance(content, str) else content
            (hidden / name).write_bytes(text)

    return write_folder(folder, write, force=force)


def write_folder(folder: Path, write: Callable[[Path], None], *, force: bool) -> Path:
    """Save what `write` puts into the folder that it gets, and return the path of the result.

    Files are written to a hidden folder next to the target, which is then renamed to it. Hidden folders of
    killed processes are removed first. If another run took the name in the meantime, this one is saved
    next to it, with a number at its end. With `force`, the files of an earlier run are replaced, and other
    files there are kept. A folder that cannot be renamed (a mount, the current folder) is filled instead.

    Raises:
        ReportError: for example, the disk is full, or the path is not writable.
    """
    try:
        target = folder.resolve()
        stays = _must_stay(target)
        hidden = target / f".incomplete-{own_mark()}" if stays else hidden_path(target, "incomplete")
        target.parent.mkdir(parents=True, exist_ok=True)
        clear_remains(hidden.parent)
        shutil.rmtree(hidden, ignore_errors=True)  # of an earlier process with this id
        with removed_afterwards(hidden):
            hidden.mkdir()
            write(hidden)
            placed = _fill(hidden, target, force=force) if stays else _put(hidden, target, force=force)
    except OSError as error:
        raise ReportError(f"the run could not be saved in {folder}: {_reason(error)}") from error
    return folder if placed == target else placed


def write_file(path: Path, content: bytes) -> None:
    """Write one file and the folders above it; an earlier file is replaced.

    Raises:
        ReportError: for example, the disk is full, or the path is not writable.
    """
    hidden = hidden_path(path, "incomplete")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_remains(path.parent)
        with removed_afterwards(hidden):
            hidden.write_bytes(content)
            hidden.replace(path)
    except OSError as error:
        raise ReportError(f"{path} could not be written: {error.strerror or error}") from error


def _must_stay(target: Path) -> bool:
    """Must this folder not be renamed, because it is a mount or the current folder?"""
    return target.is_dir() and (target.is_mount() or target == Path.cwd())


def _fill(hidden: Path, target: Path, *, force: bool) -> Path:
    """Move files into a folder. The old manifest is removed first, and the new one is moved last."""
    if not force and ours_in(target):  # another run was faster
        return hidden.rename(target / f"run-{os.getpid()}")
    for name in ours_in(target):
        (target / name).unlink()
    for name in reversed(ours_in(hidden)):
        (hidden / name).rename(target / name)
    return target


def _put(hidden: Path, target: Path, *, force: bool) -> Path:
    """Give a complete folder its name; an empty folder of that name is replaced."""
    if force and target.is_dir() and any(target.iterdir()):
        _replace(hidden, target)
        return target
    for path in numbered(target):
        try:
            return hidden.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
    raise AssertionError("numbers never end")


def _replace(hidden: Path, target: Path) -> None:
    """Exchange folders. Between the two renames the target is absent, but never half-written."""
    old = hidden_path(target, "replaced")
    target.rename(old)
    try:
        hidden.rename(target)
    except OSError:
        old.rename(target)
        raise
    replaced = ours_in(old)
    for entry in list(old.iterdir()):
        if entry.name not in replaced:
            entry.rename(target / entry.name)
    shutil.rmtree(old, ignore_errors=True)


def json_text(document: object) -> str:
    """The text of a JSON file."""
    return json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: object) -> object:
    """The value with infinities as words, because JSON has none, but a rate may be infinite."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, object]], digits: int = 10) -> str:
    """A header and one line per row; floats have `digits` digits, a missing value is an empty cell."""
    text, names = io.StringIO(), tuple(columns)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        cells = (row[name] for name in names)
        writer.writerow([f"{cell:.{digits}g}" if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue()


def _reason(error: BaseException) -> str:
    """Plain words for an error of the operating system."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return reason[:1].lower() + reason[1:]
