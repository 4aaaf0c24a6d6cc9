from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, threading, time
from pagedbench.runs.beside import beside

def work():
    with open(sys.argv[1], "a") as log:
        log.write(f"{os.getpid()} ")
    if os.getpid() != own or FAILS_ALWAYS:
        ACTION

own = os.getpid()
if IS_INTERRUPTED:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started it to ignore it
    os.register_at_fork(after_in_parent=lambda: os.kill(own, signal.SIGINT))
if IS_REFUSED:
    def fork():
        raise BlockingIOError(11, "Resource temporarily unavailable")
    os.fork = fork
if NUM_THREADS > 1:
    threading.Thread(target=time.sleep, args=(1,)).start()
with beside(work, is_worth_it=IS_WORTH_IT):
    BLOCK
"""

has_threads = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="the system does not say how many threads run"
)


def run(
    folder: Path,
    action: str = "pass",
    *,
    is_worth_it: bool = True,
    num_threads: int = 1,
    fails_always: bool = False,
    is_refused: bool = False,
    is_interrupted: bool = False,
    block: str = "pass",
) -> tuple[list[bool], str]:
    """Which attempts at the work this process made itself, and the last line of its stderr."""
    program = (
        PROGRAM.replace("FAILS_ALWAYS", str(fails_always))
        .replace("IS_REFUSED", str(is_refused))
        .replace("IS_INTERRUPTED", str(is_interrupted))
        .replace("ACTION", action)
        .replace("NUM_THREADS", str(num_threads))
        .replace("IS_WORTH_IT", str(is_worth_it))
        .replace("BLOCK", block)
    )
    log = folder / "log"
    process = subprocess.Popen([sys.executable, "-c", program, str(log)], stderr=subprocess.PIPE, text=True)
    _, errors = process.communicate(timeout=60)
    workers = [int(word) for word in log.read_text().split()]
    return [pid == process.pid for pid in workers], errors.strip().split("\n")[-1]


@has_threads
@pytest.mark.parametrize(
    "action", ["os.kill(os.getpid(), signal.SIGKILL)", "raise KeyboardInterrupt", "1 / 0"]
)
def test_what_a_copy_has_not_done_is_done_afterwards(tmp_path: Path, action: str) -> None:
    assert run(tmp_path, action) == ([False, True], "")


@has_threads
@pytest.mark.parametrize("action", ["pass", "os.kill(os.getpid(), signal.SIGINT)"])
def test_a_copy_does_the_work_and_leaves_signals_to_this_process(tmp_path: Path, action: str) -> None:
    assert run(tmp_path, action) == ([False], "")


@has_threads
def test_an_error_is_that_of_the_work(tmp_path: Path) -> None:
    found = run(tmp_path, "raise OSError(28, 'No space left on device')", fails_always=True)
    assert found == ([False, True], "OSError: [Errno 28] No space left on device")


@has_threads
def test_an_error_of_the_block_ends_the_copy(tmp_path: Path) -> None:
    """The copy would work for longer than the test may take."""
    block = "while not os.path.exists(sys.argv[1]) or not os.path.getsize(sys.argv[1]): pass\n    1 / 0"
    assert run(tmp_path, "time.sleep(1000)", block=block) == (
        [False],
        "ZeroDivisionError: division by zero",
    )


@pytest.mark.parametrize(("is_worth_it", "num_threads"), [(False, 1), (True, 2)])
def test_otherwise_no_copy_is_made(tmp_path: Path, is_worth_it: bool, num_threads: int) -> None:
    assert run(tmp_path, is_worth_it=is_worth_it, num_threads=num_threads) == ([True], "")


@has_threads
def test_a_system_without_room_for_a_copy_is_no_error(tmp_path: Path) -> None:
    assert run(tmp_path, is_refused=True) == ([True], "")


@has_threads
def test_ctrl_c_while_the_copy_is_made_is_not_lost(tmp_path: Path) -> None:
    """Raised inside one of Python's own hooks of a fork, it would only be printed."""
    (tmp_path / "log").touch()
    _, last_line = run(tmp_path, is_interrupted=True, block="print('it goes on', file=sys.stderr)")
    assert last_line == "KeyboardInterrupt"
