"""Incomplete results have hidden names; those of processes that have died are removed."""

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
    """A path beside `place` that names this process. `state`: "incomplete" or "replaced"."""
    return place.with_name(f".{place.name}.{state}-{own_mark()}")


def own_mark() -> str:
    """This process: its id and, as ids are used again, its start time and the system that counts them."""
    pid = os.getpid()
    start = _start_of(pid)
    return f"{pid}" if start is None else f"{pid}-{start}-{_system()}"


@dataclass(frozen=True, slots=True)
class Remains:
    """A hidden file or folder that a process left, or still writes.

    Attributes:
        path: where it is.
        target: what it would have become, or was.
        is_abandoned: it belongs to this user, and its process is known to have died.
    """

    path: Path
    target: Path
    is_abandoned: bool

    def clear(self) -> None:
        """Remove what pagedbench wrote, and nothing else. A run whose replacement failed is restored.

        Raises:
            OSError: something else lies in it, or it may not be removed.
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
    """The remains in a folder, of dead and of running processes."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = NAME.fullmatch(entry.name)
            if match is not None and not entry.is_symlink():
                is_own = entry.stat(follow_symlinks=False).st_uid == os.geteuid()
                target = folder / match["place"] if match["place"] else folder
                yield Remains(folder / entry.name, target, is_own and _has_died(match))


def clear_remains(folder: Path) -> None:
    """Remove the remains of killed processes; what cannot be removed stays."""
    for remains in list(remains_in(folder)):
        if remains.is_abandoned:
            with contextlib.suppress(OSError):
                remains.clear()


@contextlib.contextmanager
def removed_afterwards(path: Path) -> Iterator[None]:
    """Removes a file or folder of this process however the block ends, at once by `signals.leave` too."""
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a worker that was forked meanwhile has this list too
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
    """Whether the process of a name has died; unknown, so False, for another system or an earlier boot."""
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
    """Start time of a process, in ticks since boot; None if it has ended or the system does not tell."""
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
