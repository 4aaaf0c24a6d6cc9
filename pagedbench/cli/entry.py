"""The `pagedbench` command: ready for Ctrl-C and for termination before anything heavy is imported."""

from __future__ import annotations

import gc
import os
import signal

from pagedbench.runs.exit_codes import INTERRUPTED
from pagedbench.runs.garbage import COMMAND_THRESHOLDS
from pagedbench.runs.signals import SIGNALS, interrupt, leave


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: always, with the exit code.
    """
    try:
        for number in SIGNALS:
            signal.signal(number, interrupt)
        gc.set_threshold(*COMMAND_THRESHOLDS)
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's products are small: threads only spin
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
        gc.freeze()  # nor is garbage searched for
