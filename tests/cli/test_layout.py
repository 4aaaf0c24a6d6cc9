"""What commands print fits in 80 and in 160 columns, whole: no word is broken and no figure is lost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from cli.command import QUICK, SIMULATED, Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Answer]

WIDTHS = (80, 160)
UNBROKEN = 2000
"""Columns in which no line wraps and no table is stacked."""

SYSTEMS = ("--system", "paged,orca-max,fastertransformer")
SMALL = ("--kv-slots", "4096", "--rate", "3", "--duration", "4")
TO = ("--output", "out", "--force")
HERE = ("--jobs", "1", "--progress", "none")
PIECES = re.compile("[─█▓▒░·-]+")
"""Rules and bars, which are as long as there is room."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", *QUICK, *TO),
    "swap": ("run", *SIMULATED, *SMALL, "--preemption", "swap", "--slo", "ttft:1s tpot:50ms", *TO),
    "several runs": ("run", *QUICK, "--block-size", "8,16", "--repeats", "2", *TO),
    "dry run": ("run", *QUICK, *SYSTEMS, "--rate", "1,2", "--dry-run"),
    "compare": ("compare", *SIMULATED, "--rate", "4", "--duration", "6", *TO),
    "compare many": (
        "compare", *SIMULATED, *SMALL, "--system", "paged,fastertransformer",
        "--preemption", "recompute,swap", "--max-num-seqs", "64,256", "--slo", "ttft:1s", *TO,
    ),
    "gate": ("compare", *QUICK, "--system", "paged,orca-max", "--gate", "default", *TO),
    "sweep": ("sweep", *SIMULATED, *SMALL, *SYSTEMS, "--seed", "0,1", *HERE, *TO),
    "capacity": (
        "capacity", *SIMULATED, "--duration", "3", *SYSTEMS, "--bound", "0.1,0.5", "--tolerance", "0.5",
        *HERE, *TO,
    ),
    "least pool": (
        "capacity", *SIMULATED, "--duration", "4", "--rate", "1", "--find", "kv-memory", "--system",
        "paged,orca-max", "--tolerance", "0.5", *HERE, *TO,
    ),
    "check": ("check", "--case", "paged/recompute"),
    "baseline list": ("baseline", "list"),
    "baseline show": ("baseline", "show"),
    "systems": ("systems",),
    "doctor": ("doctor",),
    "doctor models": ("doctor", "--models"),
    "doctor cards": ("doctor", "--cards"),
    "trace list": ("trace", "list"),
    "trace show": ("trace", "show", "sharegpt"),
}  # fmt: skip


def words_of(text: str) -> set[str]:
    return {word for word in text.split() if not PIECES.fullmatch(word)}


def at_each_width(
    pagedbench: Command, monkeypatch: pytest.MonkeyPatch, here: Path, arguments: tuple[str, ...]
) -> None:
    """A path that is longer than a line is printed whole, so that it can be copied.

    Free memory and disk space change from one call of `doctor` to the next.
    """
    monkeypatch.setenv("COLUMNS", str(UNBROKEN))
    whole = pagedbench(*arguments)
    assert whole.code in (0, 3), whole.err
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        text = pagedbench(*arguments).out
        long = [line for line in text.splitlines() if len(line) > width and str(here) not in line]
        assert not long, f"at {width}:\n" + "\n".join(long)
        if arguments != ("doctor",):
            assert words_of(text) == words_of(whole.out)


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_fit(pagedbench: Command, monkeypatch: pytest.MonkeyPatch, here: Path, name: str) -> None:
    at_each_width(pagedbench, monkeypatch, here, COMMANDS[name])


def test_commands_on_saved_runs_fit(
    pagedbench: Command, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    for name, options in (("a", ()), ("b", ("--block-size", "32"))):
        pagedbench("run", *SIMULATED, *SMALL, *options, "--output", name)
    for arguments in (("explain", "a"), ("explain", "a", "b"), ("compare", "a", "b")):
        at_each_width(pagedbench, monkeypatch, here, arguments)
