"""Every task has an outcome: its own, an error's words, or that its process died; and a stop ends all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from pagedbench.runs.parallel import (
    Failure,
    in_processes,
    in_this_process,
    new_stop,
    stopping,
)
from runs.tasks import blocked_signals, work


def test_outcomes_of_good_failing_and_dying_tasks() -> None:
    tasks = ["a", "fail", "die", "b", "c"]
    outcomes = dict(in_processes(work, tasks, 2, new_stop()))
    assert sorted(outcomes) == sorted(tasks)
    assert (outcomes["a"], outcomes["b"], outcomes["c"]) == ("A", "B", "C")
    failure = outcomes["fail"]
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("ValueError: bad luck (")
    died = outcomes["die"]
    assert isinstance(died, Failure)
    assert "exit code 3" in died.reason


def test_a_stop_ends_what_runs_and_begins_nothing() -> None:
    stop, seen = new_stop(), []
    for task, outcome in in_processes(work, ["a", "wait", "b", "c"], 1, stop):
        seen.append((task, outcome))
        stop.set()
    assert seen == [("a", "A"), ("wait", "stopped")]  # the second had begun
    outcomes = in_processes(work, ["wait", "b"], 1, again := new_stop())
    threading.Timer(0.5, again.set).start()
    assert list(outcomes) == [("wait", "stopped")]


def test_signals_reach_workers_through_their_parent() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    [(_, blocked)] = in_processes(blocked_signals, ["a"], 1, new_stop())
    assert isinstance(blocked, set)
    assert {signal.SIGINT, signal.SIGTERM} <= blocked
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


PARENT = """
from runs.tasks import work
from pagedbench.runs.parallel import in_processes, new_stop

for _, outcome in in_processes(work, ["a", "wait", "wait"], 2, new_stop()):
    print(outcome, flush=True)
"""


def test_workers_of_a_killed_parent_end_silently() -> None:
    """Their outputs are closed when the last of them has gone, which would else take half a minute."""
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **paths},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "A\n"
        process.kill()
        assert process.communicate(timeout=20) == ("", "")


def test_one_after_the_other_in_this_process() -> None:
    stop = threading.Event()
    outcomes = in_this_process(work, ["a", "fail", "b", "c"], stop)
    assert next(outcomes) == ("a", "A")
    name, failure = next(outcomes)
    assert name == "fail"
    assert failure.reason.startswith("ValueError: bad luck (")
    stop.set()
    assert list(outcomes) == []


def test_stopping_calls_once_and_only_within_its_block() -> None:
    stop, calls, called = threading.Event(), list[float](), threading.Event()
    with stopping(stop, lambda: (calls.append(1.0), called.set())):
        stop.set()
        assert called.wait(60)
    assert calls == [1.0]
    late = threading.Event()
    with stopping(late, lambda: calls.append(2.0)):
        pass
    late.set()  # the thread that would have seen it has ended with the block
    assert calls == [1.0]
