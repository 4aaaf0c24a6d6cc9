"""Half-written results: how they are called, and the removal of those whose process has died."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.runs.file_names import ours_in

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = re.compile(
    r"\.(?:(?P<place>.+)\.)?(?P<state>incomplete|replaced)"
    r"-(?P<pid>\d+)(?:-(?P<start>\d+)-(?P<system>[0-9a-f]{8}))?"
)
PROC = Path("/proc")


def hidden_path(place: Path, state: str) -> Path:
    """Beside the place, under a name that says whose it is. `state`: "incomplete" or "replaced"."""
    return place.with_name(f".{place.name}.{state}-{own_mark()}")


def own_mark() -> str:
    """This process by its number and, as numbers are used again, its start and the system that counts."""
    pid = os.getpid()
    start = _start_of(pid)
    return f"{pid}" if start is None else f"{pid}-{start}-{_system()}"


@dataclass(frozen=True, slots=True)
class Remains:
    """A hidden file or folder with such a name.

    Attributes:
        path: where it is.
        target: what it would have become, or was.
        is_abandoned: it is this user's, and its process is known to have died.
    """

    path: Path
    target: Path
    is_abandoned: bool

    def clear(self) -> None:
        """Remove what pagedbench wrote, and nothing else. A run that was to be replaced comes back.

        Raises:
            OSError: something else lies in it, or it may not be removed.
        """
        if ".replaced-" not in self.path.name:
            _remove(self.path)
        elif not self.target.exists():  # killed before the new run had its place
            self.path.rename(self.target)
        else:
            replaced = ours_in(self.path)
            for entry in list(self.path.iterdir()):
                if entry.name not in replaced and not (self.target / entry.name).exists():
                    entry.rename(self.target / entry.name)
            _remove(self.path)


def remains_in(folder: Path) -> Iterator[Remains]:
    """What lies there, of dead and of living processes."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = NAME.fullmatch(entry.name)
            if match is not None and not entry.is_symlink():
                is_own = entry.stat(follow_symlinks=False).st_uid == os.geteuid()
                target = folder / match["place"] if match["place"] else folder
                yield Remains(folder / entry.name, target, is_own and _has_died(match))


def clear_remains(folder: Path) -> None:
    """Remove what killed processes left; whatever cannot be removed stays."""
    for remains in list(remains_in(folder)):
        if remains.is_abandoned:
            with contextlib.suppress(OSError):
                remains.clear()


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for files with names of ours, as long as the block lasts."""
    place = Path(tempfile.gettempdir())
    clear_remains(place)
    folder = hidden_path(place / "pagedbench", "incomplete")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink()
        return
    for name in ours_in(path):
        (path / name).unlink()
    path.rmdir()


def _has_died(match: re.Match[str]) -> bool:
    """What another system wrote, or this one before it was started anew, is not known to be abandoned."""
    pid = int(match["pid"])
    if match["system"] is not None:
        return match["system"] == _system() and _start_of(pid) != match["start"]
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def _start_of(pid: int) -> str | None:
    """When a process began, in ticks since the system did; None if it has ended, or nobody knows."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *others = text.rpartition(")")[2].split()  # fields 3 to 52: the name before may hold anything
    return None if state in "ZX" else others[18]


def _system() -> str:
    """This start of this system, and the numbering of processes that this one sees."""
    facts = [
        (PROC / "sys/kernel/random/boot_id").read_bytes(),
        os.fsencode(os.readlink(PROC / "self/ns/pid")),
    ]
    return hashlib.sha256(b" ".join(facts)).hexdigest()[:8]
