"""Names of the files and folders that commands write. `--force` replaces only files with these names."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = ("manifest.json", "config.toml", "summary.json", "summary.csv", "requests.csv", "steps.csv",
         "server.csv", "preemptions.csv", "evictions.csv", "outputs.jsonl", "events.parquet")  # fmt: skip
"""Files of a run."""

OURS = (
    *FILES,
    *("kernels.csv", "capacity.csv", "capacity.json"),
    *("policies.csv", "policies.json", "policies.png", "policies.svg"),
    *("plan.csv", "plan.json", "plan.png", "plan.svg", "fleets.csv"),
    *("curve.csv", "curve-lru.csv", "curve.png", "curve.svg"),
    *("comparison.json", "comparison.csv", "comparison.md", "check.json", "check.md"),
    *("junit.xml", "benchmark-smaller.json", "benchmark-bigger.json"),
    *("view.html", "perfetto.json"),
    *("scorecard.csv", "scorecard.md", "scorecard.json", "engines.csv", "engines.md"),
)
"""Files of all commands, the manifest first."""

FIGURES = ("fig*", "watermark", "victims", "admission", "chunked-prefill", "hit-rates*", "windows",
           "pages")  # fmt: skip
PATTERNS = tuple(f"{name}.{kind}" for name in FIGURES for kind in ("csv", "png", "svg"))
"""Files with the name of a figure."""


def is_ours(name: str) -> bool:
    """Whether a command gives a file this name."""
    return name in OURS or any(map(Path(name).match, PATTERNS))


def ours_in(folder: Path) -> list[str]:
    """Names of the files there that `OURS` or `PATTERNS` know, the manifest first."""
    fixed = [name for name in OURS if (folder / name).exists()]
    return fixed + sorted(path.name for pattern in PATTERNS for path in folder.glob(pattern))


def dated_folder(name: str, started: str) -> Path:
    """results/<time>_<name> in the current folder, with a number at its end if that exists already."""
    paths = numbered(Path("results") / f"{compact_time(started)}_{name}")
    return next(path for path in paths if not path.exists())


def numbered(path: Path) -> Iterator[Path]:
    """The path itself, then with -2, -3 and so on at its end."""
    yield path
    for number in itertools.count(2):
        yield path.with_name(f"{path.name}-{number}")


def compact_time(iso: str) -> str:
    """An ISO time as part of a name: 2025-01-31T12:00:05Z becomes 20250131-120005."""
    date, _, time = iso.partition("T")
    return f"{date.replace('-', '')}-{time[:8].replace(':', '')}"
