"""The threads of the native kernels: shared by callers, gone in a child of fork, and never late."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

pytest.importorskip("pagedbench.ops.native", reason="native kernels not built", exc_type=ImportError)

from pagedbench.ops import native

FORK = """
import os, torch
from pagedbench.ops import native
torch.set_num_threads(3)
layer, x = native.linear(torch.ones(4000, 64)), torch.ones(64, 64)
expected = layer(x)
child = os.fork()
if child == 0:
    os._exit(0 if bytes(layer(x).numpy()) == bytes(expected.numpy()) else 1)  # none of torch's threads
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), torch.equal(layer(x), expected))
"""


def test_callers_at_the_same_time_disturb_no_other():
    torch.set_num_threads(3)
    weight = torch.randn(600, 64)
    layer, xs = native.linear(weight), [torch.randn(33, 64) for _ in range(8)]
    expected = [layer(x) for x in xs]
    with ThreadPoolExecutor(8) as callers:
        for found in callers.map(lambda x: [layer(x) for _ in range(50)], xs):
            want = expected.pop(0)
            assert all(torch.equal(out, want) for out in found)


@pytest.mark.parametrize("num_threads", [2, 3, 64])
def test_every_task_runs_once_however_many_threads(num_threads: int):
    """Sums of ones count the columns; an output that no task has written keeps NaN."""
    layer = native._cpu.Linear(torch.ones(5000, 48), torch.zeros(5000), "none", num_threads)
    for _ in range(20):
        out = torch.full((40, 5000), torch.nan)
        layer.product(torch.ones(40, 48), out, num_threads)
        assert torch.equal(out, torch.full((40, 5000), 48.0))


def test_workers_sent_to_other_cores_may_use_all_of_them_again():
    """More threads than cores, for some of the milliseconds after which workers are sent away."""
    if sys.platform != "linux":
        pytest.skip("reads the cores of threads")
    layer = native._cpu.Linear(torch.ones(5000, 48), torch.zeros(5000), "none", 8)
    x, out, end = torch.ones(40, 48), torch.empty(40, 5000), time.monotonic() + 0.05
    while time.monotonic() < end:
        layer.product(x, out, 8)
    threads = [int(path.name) for path in Path("/proc/self/task").iterdir()]
    assert len(threads) >= 8
    assert {frozenset(os.sched_getaffinity(thread)) for thread in threads} == {
        frozenset(os.sched_getaffinity(0))
    }


def test_a_child_of_fork_has_threads_of_its_own():
    if sys.platform != "linux":
        pytest.skip("forks with threads")
    command = [sys.executable, "-c", FORK]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert said.stdout.split() == ["0", "True"]
