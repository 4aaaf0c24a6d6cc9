"""A signal at any moment after the interpreter's own start: exit code 130 and no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.command import SIMULATED
from pagedbench.runs.garbage import COMMAND_THRESHOLDS

RUN = ("run", *SIMULATED, "--duration", "5000", "--output", "out")
"""Seconds of work, however fast the machine."""

SIGNAL_AT_IMPORT = """
import os, sys

module, number = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, Finder())
from pagedbench.cli.entry import main
main()
"""

SIGNAL_AT_THE_END = """
import atexit, os, signal
atexit.register(os.kill, os.getpid(), signal.SIGINT)
from pagedbench.cli.entry import main
main()
"""

THRESHOLD_AT_THE_END = """
import atexit, gc
atexit.register(lambda: print(gc.get_threshold()))
from pagedbench.cli.entry import main
main()
"""

SIGNAL_WITHIN_EVAL = """
import os, signal
from pagedbench.cli import app, entry

def invoke(arguments):
    try:
        eval(f"os.kill(os.getpid(), {signal.SIGINT:d})")
    except KeyboardInterrupt:
        return 130

app._invoke = invoke
entry.main()
"""


def answer_of(script: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("pagedbench.cli.app", signal.SIGINT),
        ("typer", signal.SIGTERM),
        ("numpy", signal.SIGINT),
        ("pagedbench.show.progress", signal.SIGTERM),
    ],
)
def test_within_an_import(module: str, number: signal.Signals, tmp_path: Path) -> None:
    answer = answer_of(SIGNAL_AT_IMPORT, module, str(int(number)), *RUN, folder=tmp_path)
    assert (answer.returncode, answer.stderr) == (130, "")
    assert list(tmp_path.iterdir()) == []


def test_after_the_last_word(tmp_path: Path) -> None:
    answer = answer_of(SIGNAL_AT_THE_END, "--version", folder=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("pagedbench ")


def test_garbage_is_searched_for_less_often_than_python_does(tmp_path: Path) -> None:
    answer = answer_of(THRESHOLD_AT_THE_END, "--version", folder=tmp_path)
    assert answer.stdout.splitlines()[1:] == [str(COMMAND_THRESHOLDS)]


def test_within_an_annotation(tmp_path: Path) -> None:
    """Typer evaluates them as strings, and Python remembers an interrupt that passed through there."""
    (tmp_path / "program.py").write_text(SIGNAL_WITHIN_EVAL, encoding="utf-8")
    command = [sys.executable, "-m", "program"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (answer.returncode, answer.stderr) == (130, "")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not show who is ready")
@pytest.mark.parametrize(("command", "delay"), [("run", 0.4), ("sweep", 0.4), ("sweep", 0.8)])
def test_a_terminals_interrupt_reaches_every_process(command: str, delay: float, tmp_path: Path) -> None:
    """Whatever it falls into; a slow machine is then still at its start, and the answer is the same."""
    words = [sys.executable, "-m", "pagedbench", command, *RUN[1:]]
    words += ["--system", "paged,orca-max", "--jobs", "2"] if command == "sweep" else []
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    ) as process:
        wait_for_entry(process)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


def wait_for_entry(process: subprocess.Popen[str]) -> None:
    """Until the interpreter's own start is over: it has a handler for SIGTERM, which Python never has."""
    while process.poll() is None:
        with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
            caught = next(line.split()[1] for line in file if line.startswith("SigCgt:"))
        if int(caught, 16) & 1 << signal.SIGTERM - 1:
            return
        time.sleep(0.005)
