"""The run folder: what lies in it, where it goes, and that it is never there by half.

What needs numpy is imported where it is used: the place is looked at before anything heavy is.
"""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.runs.file_names import compact_time, is_ours, ours_in
from pagedbench.runs.remains import clear_remains, hidden_path, own_mark
from pagedbench.runs.toml import config_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pagedbench.runs.result import Result

MAX_NAME_LEN = 200  # bytes; file systems allow 255, and the folder has a longer name while it is written


class ReportError(Exception):
    """A finished run could not be saved. One sentence."""


def default_folder(name: str, started: str) -> Path:
    """results/<time>_<name> in the current folder, with a number if taken. `name`: what the run is."""
    folder = f"{compact_time(started)}_{name}"
    return next(path for path in _names(Path("results") / folder) if not path.exists())


def _names(path: Path) -> Iterator[Path]:
    """The path itself, then with -2, -3 and so on at its end."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.name}-{number}")


def check_folder(folder: Path, *, force: bool) -> None:
    """Can a run be saved here? To be asked before it starts.

    Raises:
        ConfigError: the folder is a file, is not empty (without `force`), or cannot be made.
    """
    try:
        target = folder.resolve()
        if target.exists():
            _check_existing(folder, target, force=force)
        above = next(path for path in target.parents if path.exists())
        above = target if _stays(target) else above
        is_open = above.is_dir() and os.access(above, os.W_OK | os.X_OK)
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links
        raise ConfigError(f"--output {folder} cannot be used: {_reason(error)}") from error
    if len(os.fsencode(target.name)) > MAX_NAME_LEN:
        raise ConfigError(f"--output has a name of more than {MAX_NAME_LEN} bytes: choose a shorter one")
    if not is_open:
        raise ConfigError(
            f"--output {folder} cannot be made: {above} is not a folder that may be written to"
        )


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
    """Can runs be saved under their own names? To be asked before the first one starts.

    Raises:
        ConfigError: `results` in the current folder is a file or may not be written to.
    """
    try:
        place = Path("results").resolve()
        place = place if place.exists() else place.parent
        is_open = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    except OSError as error:  # the current folder was removed
        raise ConfigError(f"the current folder cannot be used: {_reason(error)}; use --output") from error
    if not is_open:
        raise ConfigError(
            f"results cannot be saved: {place} is not a folder that may be written to; use --output"
        )


def write_run(result: Result, folder: Path, *, force: bool, save_outputs: bool) -> Path:
    """Save a run, whole or not at all, and return where it is. See `write_folder`.

    Raises:
        ReportError: the disk is full, the place may not be written to, and the like.
    """

    def write(hidden: Path) -> None:
        _write_files(result, hidden, save_outputs=save_outputs)

    return write_folder(folder, write, force=force)


def write_texts(texts: Mapping[str, str], folder: Path, *, force: bool) -> Path:
    """Save files, by name, as `write_folder` does; the names are of `OURS` or `PATTERNS`."""
    return write_contents({name: _encoded(text) for name, text in texts.items()}, folder, force=force)


def write_contents(contents: Mapping[str, bytes], folder: Path, *, force: bool) -> Path:
    """The same for files that are not all text."""
    for name in contents:
        assert is_ours(name), "it could not be replaced later"

    def write(hidden: Path) -> None:
        for name, content in contents.items():
            (hidden / name).write_bytes(content)

    return write_folder(folder, write, force=force)


def write_folder(folder: Path, write: Callable[[Path], None], *, force: bool) -> Path:
    """Save what `write` puts into the folder that it is given, and return where it is.

    Everything is written beside the place under a hidden name, which then gets the folder's own. What a
    killed process left there is removed first. If
    another run took the place in the meantime, this one is saved beside it, with a number at its end.
    With `force` the files of an earlier run are replaced; others that lie there are kept.
    A folder that cannot get out of the way (a mount, the current folder) is filled instead.

    Raises:
        ReportError: the disk is full, the place may not be written to, and the like.
    """
    try:
        target = folder.resolve()
        stays = _stays(target)
        hidden = target / f".incomplete-{own_mark()}" if stays else hidden_path(target, "incomplete")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            clear_remains(hidden.parent)
            shutil.rmtree(hidden, ignore_errors=True)  # where processes are known by their number alone
            hidden.mkdir()
            write(hidden)
            placed = _fill(hidden, target, force=force) if stays else _put(hidden, target, force=force)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
    except OSError as error:
        raise ReportError(f"the run could not be saved in {folder}: {_reason(error)}") from error
    return folder if placed == target else placed


def _write_files(result: Result, folder: Path, *, save_outputs: bool) -> None:
    from pagedbench.runs.columns import (
        csv_lines,
        output_lines,
        preemption_columns,
        request_columns,
        step_columns,
    )
    from pagedbench.runs.manifest import manifest_document
    from pagedbench.runs.result import summary_row
    from pagedbench.runs.summary import summary_document

    record = result.record
    _write(folder / "config.toml", config_toml(result.plan.config))
    _write(folder / "summary.json", json_text(summary_document(result)))
    row = summary_row(result)
    _write(folder / "summary.csv", csv_text(row, [row]))
    _write_lines(folder / "requests.csv", csv_lines(request_columns(record)))
    _write_lines(folder / "steps.csv", csv_lines(step_columns(record)))
    if record.preemptions:
        _write_lines(folder / "preemptions.csv", csv_lines(preemption_columns(record)))
    if save_outputs:
        _write_lines(folder / "outputs.jsonl", output_lines(record, result.plan.shape.vocab_size))
    _write(folder / "manifest.json", json_text(manifest_document(result)))


def _stays(target: Path) -> bool:
    """Is this a folder that must not be renamed? A mount cannot be, and a shell may sit in the current."""
    return target.is_dir() and (target.is_mount() or target == Path.cwd())


def _fill(hidden: Path, target: Path, *, force: bool) -> Path:
    """Move files into a folder. The manifest goes first and comes last: without it, it is incomplete."""
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
    for path in _names(target):
        try:
            hidden.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        else:
            return path
    raise AssertionError("names never end")


def _replace(hidden: Path, target: Path) -> None:
    """Swap in a folder. Between the two renames there is none: absent, never half-written."""
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


def _write(path: Path, text: str) -> None:
    path.write_bytes(_encoded(text))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)


def json_text(document: object) -> str:
    """The text of a JSON file."""
    return json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: object) -> object:
    """JSON has no infinity, but a rate may be infinite: it is written as a word."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, object]], digits: int = 10) -> str:
    """A header and a line a row; floats to `digits` digits, nothing where a value is not defined."""
    names, text = list(columns), io.StringIO()
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
