"""A rank that dies or hangs ends the run, which names it and keeps what is finished; no process survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pagedbench.errors import RankError
from pagedbench.execution.input_builder import InputBuilder
from pagedbench.execution.model_runner import ModelExecutor, PoolLayout
from pagedbench.execution.parallel.messages import Load
from pagedbench.runs.runner import serve
from pagedbench.workload.arrivals import FixedArrivals
from ranks import Cluster
from serving import GREEDY, ROOMY, engine_of, memory_of, requests_of

pytestmark = pytest.mark.usefixtures("one_thread")

LIMIT = 10.0
"""Seconds."""

STEP = 25
"""By then some requests are finished, and some are not."""


class Signalling:
    """A runner that sends a signal to a rank in the middle of the run."""

    def __init__(self, runner, process, number):
        self._runner = runner
        self._send = lambda: process.send_signal(number)
        self._left = STEP
        self.sent = None

    def run(self, inputs):
        self._left -= 1
        if not self._left:
            self._send()
            self.sent = time.perf_counter()
        return self._runner.run(inputs)


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "was killed by SIGKILL"), (signal.SIGSTOP, "was stopped")]
)
def test_a_lost_rank_ends_the_run(folder: Path, number: signal.Signals, reason: str) -> None:
    cluster = Cluster(2)
    memory, part = memory_of("paged", ROOMY), cluster.load(folder)
    leader, process = cluster.ranks.leader, cluster.ranks.children[1]
    layout = PoolLayout.of(memory, save_logprobs=False)
    runner = Signalling(leader.engine(part, layout)[0], process, number)
    executor = ModelExecutor(InputBuilder(memory, part.loaded.shape.vocab_size), runner)
    requests = requests_of(folder, GREEDY)
    record = serve(engine_of("paged", memory, executor, "auto"), FixedArrivals(requests))
    assert runner.sent is not None
    assert time.perf_counter() - runner.sent < LIMIT
    assert record.crash is not None
    assert record.crash.startswith(f"RankError: rank 1 of 2 (process {process.pid}) {reason}")
    assert 0 < len(record.requests) < len(requests)
    assert all(len(item.outputs[0].token_ids) == item.num_tokens for item in record.requests)
    assert not cluster.ranks.is_usable
    again = serve(engine_of("paged", memory_of("paged", ROOMY), executor, "auto"), FixedArrivals(requests))
    assert again.crash is not None
    assert "not in step" in again.crash
    cluster.ranks.close()
    assert process.returncode == -signal.SIGKILL, "a rank that is stopped is killed too"


def test_no_rank_outlives_its_run() -> None:
    """Whatever kills rank 0, even without a chance to say goodbye."""
    script = (
        "import os, signal\n"
        "from ranks import Cluster\n"
        "cluster = Cluster(2)\n"
        "print(cluster.ranks.children[1].pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    folder = Path(__file__).resolve().parents[1]
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    run = subprocess.run([sys.executable, "-c", script], env=environ, stdout=subprocess.PIPE, check=False)
    assert run.returncode == -signal.SIGKILL
    rank = Path(f"/proc/{int(run.stdout)}/stat")
    end = time.perf_counter() + LIMIT
    while rank.exists() and rank.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.perf_counter() < end, "a rank has survived"
        time.sleep(0.05)


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
def test_a_rank_that_fails_says_why(folder: Path, tmp_path: Path) -> None:
    """Here because its files are gone when it loads them, as on a machine that does not have them."""
    cluster = Cluster(2)
    load = Load(str(folder), "auto", "float32", "float32", "cpu", "auto", 64, seed=0)
    leader = cluster.ranks.leader
    lacking = Load(str(tmp_path), "auto", "float32", "float32", "cpu", "auto", 64, seed=0)
    sentence = r"rank 1 of 2 \(process \d+\) failed with ModelError: "
    with pytest.raises(RankError, match=sentence), leader.told(lacking):
        leader.group.all_agree(True)
    with pytest.raises(RankError, match="not in step"):
        leader.load(load)
    cluster.ranks.close()
