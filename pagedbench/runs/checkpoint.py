"""Checkpoint: results of finished tasks in one file each, so that a repeated command computes the rest."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pagedbench.runs.alone import alone_in
from pagedbench.runs.code import code_digest
from pagedbench.runs.files import write_file
from pagedbench.runs.machine import versions
from pagedbench.runs.remains import clear_remains

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CELLS = ".cells"
"""The folder of finished tasks, within that of the results."""

DIGEST_SIZE = hashlib.sha256().digest_size


class Checkpoint:
    """Results by task. A task consists of dataclasses, mappings, sequences, functions, and plain values.

    A result is found again only for an equal task, by the same files of this program with the same versions
    of the libraries.

    Args:
        folder: a folder that holds only results.
        facts: what else determines results, such as the contents of files that tasks name.
    """

    def __init__(self, folder: Path, facts: object = None) -> None:
        self._folder = folder
        self._facts = (description(facts), code_digest(), versions())

    def results(self, tasks: Mapping[str, object]) -> dict[str, Any]:
        """The results of those tasks that have one, by name. A damaged file is not a result."""
        found = {}
        for name, task in tasks.items():
            try:
                found[name] = _loaded(self._path(task).read_bytes())
            except (OSError, pickle.UnpicklingError):
                continue
        return found

    def keep(self, task: object, result: object) -> None:
        """Save a result.

        Raises:
            ReportError: it cannot be written.
        """
        content = pickle.dumps(result)
        write_file(self._path(task), hashlib.sha256(content).digest() + content)

    def remove(self) -> None:
        """Remove all results."""
        for path in self._folder.glob("*.pickle"):
            path.unlink(missing_ok=True)

    def _path(self, task: object) -> Path:
        text = json.dumps([description(task), *self._facts])
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.pickle"


@contextlib.contextmanager
def checkpoint_in(folder: Path, command: str, facts: object, *, is_new: bool) -> Iterator[Checkpoint]:
    """The checkpoint of a folder of results, for one command at a time.

    Args:
        facts: as for `Checkpoint`.
        is_new: remove what an earlier command has kept.

    Raises:
        ConfigError: another command is at work in the folder, or it cannot be made.
    """
    clear_remains(folder.resolve().parent)  # of a command that was killed while it replaced the folder
    place = folder / CELLS
    with alone_in(folder, command, CELLS):
        checkpoint = Checkpoint(place, facts)
        if is_new:
            checkpoint.remove()
        try:
            yield checkpoint
        finally:
            with contextlib.suppress(OSError):  # there is something in them
                place.rmdir()
                folder.rmdir()


def is_unfinished(folder: Path) -> bool:
    """Whether a command has kept results there but was not completed."""
    return (folder / CELLS).is_dir()


def description(value: object) -> object:
    """A value as JSON; only equal values give equal JSON.

    Raises:
        TypeError: the value is of a type that is not supported.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Path):
        return [type(value).__name__, str(value)]
    if isinstance(value, FunctionType | type):
        return [f"{value.__module__}:{value.__qualname__}"]
    if isinstance(value, Enum):
        return [description(type(value)), value.name]
    if is_dataclass(value):
        held = {field.name: description(getattr(value, field.name)) for field in fields(value)}
        return [description(type(value)), held]
    if isinstance(value, Mapping):
        return {"items": [[description(key), description(item)] for key, item in value.items()]}
    if isinstance(value, tuple | list):
        return {"values": [description(item) for item in value]}
    raise TypeError(f"a task holds a {type(value).__qualname__}, which has no description")


def digest_of(paths: Iterable[Path]) -> str:
    """The sha256 of files, and of all files in folders."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(f"{file} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


class _Loader(pickle.Unpickler):
    """Unpickles only plain values and dataclasses of this package, because folders may come from others."""

    def find_class(self, module: str, name: str) -> Any:
        found = getattr(sys.modules.get(module), name, None)
        is_data = isinstance(found, type) and (is_dataclass(found) or issubclass(found, Enum))
        if is_data and module.startswith("pagedbench."):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} cannot be part of a result")


def _loaded(content: bytes) -> Any:
    digest, pickled = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    if hashlib.sha256(pickled).digest() != digest:
        raise pickle.UnpicklingError("damaged")
    return _Loader(io.BytesIO(pickled)).load()
