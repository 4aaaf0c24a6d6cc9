"""A crash in one line: the exception and its place, in the user's own code if that was involved."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from pagedbench.errors import RankError

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def crash_text(error: BaseException) -> str:
    """One line such as "RuntimeError: out of luck (mine.py:8, in advance)", or the rank that was lost."""
    message = " ".join(str(error).split())
    if isinstance(error, RankError):
        return f"{RankError.__name__}: {message}"
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    place = _place(error)
    return f"{text} ({place})" if place else text


def _place(error: BaseException) -> str | None:
    """The innermost line outside this package and libraries, else the innermost line of this package."""
    frames = [
        (Path(frame.filename).absolute(), frame)
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<")
    ]
    ours = [frame for frame in frames if frame[0].is_relative_to(PACKAGE)]
    libraries = [frame for frame in frames if any(map(frame[0].is_relative_to, LIBRARIES))]
    users = [frame for frame in frames if frame not in ours and frame not in libraries]
    for path, frame in reversed(users or ours):
        return f"{_shown(path)}:{frame.lineno}, in {frame.name}"
    return None


def _shown(path: Path) -> str:
    """The path, relative to this package or to the current folder if it lies there."""
    for folder in (PACKAGE.parent, Path.cwd()):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return str(path)
