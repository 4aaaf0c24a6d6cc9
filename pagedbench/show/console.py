"""Where output goes: results to stdout, everything else to stderr; rich determines colour and width."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

RUN_WIDTH = 80
COMPARE_WIDTH = 120


def stdout_console(width: int = RUN_WIDTH) -> Console:
    """The console for results. `width` applies where there is no terminal."""
    from rich.console import Console as RichConsole

    class Console(RichConsole):
        """Continues without output if its reader has gone, so that the runs continue and are saved."""

        def on_broken_pipe(self) -> None:
            silence_stdout()

    is_fixed = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=width if is_fixed else None)


def silence_stdout() -> None:
    """Send stdout to the null device, because its reader has gone, such as after `head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stderr_console() -> Console:
    """The console for progress and remarks, so that stdout holds only results."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of at most `width` characters; a longer word, such as a path, is not broken."""
    lines = textwrap.wrap(
        text, max(width, 1), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines or [""]


def say(console: Console, text: str, style: str = "") -> None:
    """Print a sentence, wrapped between words; further lines are indented like the first."""
    indent = text[: len(text) - len(text.lstrip())]
    for line in wrapped(text, console.width, indent):
        console.print(line, style=style, markup=False, soft_wrap=True)


def is_ascii(console: Console) -> bool:
    """Can the stream show only ASCII?"""
    return not console.encoding.lower().startswith("utf")


def shows_live(console: Console) -> bool:
    """Is there a terminal that can be redrawn, and a person looking at it?"""
    return console.is_terminal and not console.is_dumb_terminal and not os.environ.get("CI")
