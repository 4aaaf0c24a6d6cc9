"""Where is printed: results on stdout, everything else on stderr; colour and width as rich finds them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

RUN_WIDTH = 80
COMPARE_WIDTH = 120


def stdout_console(width: int = RUN_WIDTH) -> Console:
    """For results. `width` holds where there is no terminal to ask."""
    from rich.console import Console as RichConsole

    class Console(RichConsole):
        """Prints on into nothing when its reader has gone: the runs go on, and are saved."""

        def on_broken_pipe(self) -> None:
            silence_stdout()

    is_fixed = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=width if is_fixed else None)


def silence_stdout() -> None:
    """Nobody reads any more, such as after `head`: there is nothing to say, and nobody to say it to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def stderr_console() -> Console:
    """For progress and remarks, so that stdout holds results alone."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_whole(console: Console, table: Table) -> None:
    """Print a table at its full width, so that no figure is cut where the terminal is too narrow."""
    from rich.measure import Measurement

    width = console.width
    console.width = max(
        width, Measurement.get(console, console.options.update(max_width=1000), table).maximum
    )
    console.print(table)
    console.width = width


def is_ascii(console: Console) -> bool:
    """Can the stream show nothing but ASCII?"""
    return not console.encoding.lower().startswith("utf")


def shows_live(console: Console) -> bool:
    """Is there a terminal, with a person before it, that can be redrawn?"""
    return console.is_terminal and not console.is_dumb_terminal and not os.environ.get("CI")
