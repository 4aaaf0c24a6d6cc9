"""Names of the files that commands leave in a folder: those that `--force` may replace."""

from __future__ import annotations

from pathlib import Path

FILES = (
    "manifest.json",
    "config.toml",
    "summary.json",
    "summary.csv",
    "requests.csv",
    "steps.csv",
    "preemptions.csv",
    "outputs.jsonl",
)
"""Of a run."""

OURS = (
    *FILES,
    "kernels.csv",
    "comparison.json",
    "comparison.csv",
    "comparison.md",
    "check.json",
    "check.md",
    "junit.xml",
    "benchmark-smaller.json",
    "benchmark-bigger.json",
    "capacity.csv",
    "capacity.json",
    "scorecard.csv",
    "scorecard.md",
    "scorecard.json",
)
PATTERNS = ("fig*.csv", "fig*.png", "fig*.svg")
"""Of all commands; and those that hold a figure's name. `--force` replaces these, and no others."""


def is_ours(name: str) -> bool:
    """Is it a name that a command gives?"""
    return name in OURS or any(map(Path(name).match, PATTERNS))


def ours_in(folder: Path) -> list[str]:
    """Names of the files there that are of `OURS` or `PATTERNS`, the manifest first."""
    fixed = [name for name in OURS if (folder / name).exists()]
    return fixed + sorted(path.name for pattern in PATTERNS for path in folder.glob(pattern))


def compact_time(iso: str) -> str:
    """An ISO time as a part of a name: 2025-01-31T12:00:05Z becomes 20250131-120005."""
    date, _, time = iso.partition("T")
    return f"{date.replace('-', '')}-{time[:8].replace(':', '')}"
