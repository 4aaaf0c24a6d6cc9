"""Hidden files and folders of incomplete results; those of dead processes are removed."""

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
from pagedbench.runs.signals import AT_LEAVE

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = re.compile(
    r"\.(?:(?P<place>.+)\.)?(?P<state>incomplete|replaced)"
    r"-(?P<pid>\d+)(?:-(?P<start>\d+)-(?P<system>[0-9a-f]{8}))?"
)
PROC = Path("/proc")


def hidden_path(place: Path, state: str) -> Path:
    """A path next to `place` that names this process. `state`: "incomplete" or "replaced"."""
    return place.with_name(f".{place.name}.{state}-{own_mark()}")


def own_mark() -> str:
    """A mark of this process: its id and, because ids are reused, its start time and its system."""
    pid = os.getpid()
    start = _start_of(pid)
    return f"{pid}" if start is None else f"{pid}-{start}-{_system()}"


@dataclass(frozen=True, slots=True)
class Remains:
    """A hidden file or folder that a process left, or is still writing.

    Attributes:
        path: its path.
        target: the path that it would have become, or was.
        is_abandoned: it belongs to this user, and its process is known to have died.
    """

    path: Path
    target: Path
    is_abandoned: bool

    def clear(self) -> None:
        """Remove what pagedbench wrote, and nothing else. A run whose replacement failed is restored.

        Raises:
            OSError: there is something else in it, or removing it is not permitted.
        """
        if ".replaced-" not in self.path.name:
            _remove(self.path)
        elif not self.target.exists():  # killed before the new run had its name
            self.path.rename(self.target)
        else:
            replaced = ours_in(self.path)
            for entry in list(self.path.iterdir()):
                if entry.name not in replaced and not (self.target / entry.name).exists():
                    entry.rename(self.target / entry.name)
            _remove(self.path)


def remains_in(folder: Path) -> Iterator[Remains]:
    """The remains of dead and of running processes in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = NAME.fullmatch(entry.name)
            if match is not None and not entry.is_symlink():
                is_own = entry.stat(follow_symlinks=False).st_uid == os.geteuid()
                target = folder / match["place"] if match["place"] else folder
                yield Remains(folder / entry.name, target, is_own and _has_died(match))


def clear_remains(folder: Path) -> None:
    """Remove the remains of killed processes as far as possible."""
    for remains in list(remains_in(folder)):
        if remains.is_abandoned:
            with contextlib.suppress(OSError):
                remains.clear()


@contextlib.contextmanager
def removed_afterwards(path: Path) -> Iterator[None]:
    """Remove a file or folder of this process when the block ends, even by `signals.leave`."""
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a worker forked in the meantime also has this list
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.unlink()

    AT_LEAVE.append(remove)
    try:
        yield
    finally:
        remove()
        AT_LEAVE.remove(remove)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder, for files that `is_ours` knows."""
    place = Path(tempfile.gettempdir())
    clear_remains(place)
    folder = hidden_path(place / "pagedbench", "incomplete")
    with removed_afterwards(folder):
        folder.mkdir(mode=0o700)
        yield folder


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink()
        return
    for name in ours_in(path):
        (path / name).unlink()
    path.rmdir()


def _has_died(match: re.Match[str]) -> bool:
    """Whether the process named has died; False if unknown, as for another system or an earlier boot."""
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
    """Start time of a process, in ticks since boot; None if it has ended or is not reported."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *others = text.rpartition(")")[2].split()  # fields 3 to 52: the name before may hold anything
    return None if state in "ZX" else others[18]


def _system() -> str:
    """A digest of this boot of the machine and of the namespace that process ids belong to."""
    boot = (PROC / "sys/kernel/random/boot_id").read_bytes()
    namespace = os.fsencode(os.readlink(PROC / "self/ns/pid"))
    return hashlib.sha256(boot + b" " + namespace).hexdigest()[:8]
