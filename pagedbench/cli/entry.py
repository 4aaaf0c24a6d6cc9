"""The `pagedbench` command: ready for Ctrl-C and for termination before anything heavy is imported."""

from __future__ import annotations

import gc
import signal

from pagedbench.runs.exit_codes import INTERRUPTED
from pagedbench.runs.signals import SIGNALS, interrupt, leave

GC_THRESHOLDS = (50_000, 20, 20)
"""Thresholds of the garbage collector: with Python's own it took 0.3 s of CPU before the first token,
because imports and traces make many objects, and few cycles."""


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: always, with the exit code.
    """
    try:
        for number in SIGNALS:
            signal.signal(number, interrupt)
        gc.set_threshold(*GC_THRESHOLDS)
        from pagedbench.cli.app import main as run

        run()
    except KeyboardInterrupt:
        leave()
    except SystemExit as ending:
        if ending.code == INTERRUPTED:  # Python would end by SIGINT if Ctrl-C came within an eval()
            leave()
        raise
    finally:  # the exit code is decided; the interpreter would take its time to end
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
