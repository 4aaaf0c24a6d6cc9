"""The format of a command that writes one file: by its name, or by the file's ending."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


def format_of(
    name: str | None, output: Path | None, formats: Iterable[str], endings: Mapping[str, str]
) -> str:
    """The format `name`, or else that of the file's ending, or else the first.

    Args:
        formats: names of formats, the default first.
        endings: format by ending, such as `.md`.

    Raises:
        ConfigError: the name or the ending is not that of a format.
    """
    known = list(formats)
    if name is not None:
        if name not in known:
            raise ConfigError(f"--format is one of {', '.join(known)}, not {name!r}")
        return name
    if output is None:
        return known[0]
    kind = endings.get(output.suffix.lower())
    if kind is None:
        ends = " or ".join(endings)
        raise ConfigError(f"--output must end in {ends}, not {output.name!r}; or choose a --format")
    return kind
