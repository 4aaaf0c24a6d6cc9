"""A rank that dies or hangs ends the run, which names it and keeps what is finished; no rank survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed import HashStore

from pagedbench.errors import RankError
from pagedbench.execution.input_builder import InputBuilder
from pagedbench.execution.model_runner import ModelExecutor, PoolLayout
from pagedbench.execution.parallel import progress, watch
from pagedbench.execution.parallel.progress import LATE, TIMES, Progress, Standing, Stragglers
from pagedbench.execution.parallel.watch import LOST
from pagedbench.runs.runner import serve
from pagedbench.workload.arrivals import FixedArrivals
from ranks import Cluster
from serving import GREEDY, ROOMY, engine_of, memory_of, requests_of

pytestmark = pytest.mark.usefixtures("one_thread")

LIMIT = 60.0
"""Seconds after which a test gives up."""

STEP = 12
"""By then some requests are finished, and some are not."""


class Signalling:
    """A runner that sends a signal to a rank in the middle of the run."""

    def __init__(self, runner, process, number):
        self._runner = runner
        self._send = lambda: process.send_signal(number)
        self._left = STEP
        self.is_sent = False

    def run(self, inputs):
        self._left -= 1
        if not self._left:
            self._send()
            self.is_sent = True
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
    assert runner.is_sent
    assert record.crash is not None
    assert record.crash.startswith(f"RankError: rank 1 of 2 (process {process.pid}) {reason}")
    assert 0 < len(record.requests) < len(requests)
    assert all(len(item.outputs[0].token_ids) == item.num_tokens for item in record.requests)
    assert not cluster.ranks.is_usable
    with pytest.raises(RankError, match="not in step"):
        leader.engine(part, layout)
    cluster.ranks.close()
    assert process.returncode == -signal.SIGKILL, "a rank that is stopped is killed too"


LOOPS = """import signal
def loop(*_):
    while True:
        pass
signal.signal(signal.SIGUSR1, loop)
"""
"""What a rank runs when it starts: at this signal its main thread does nothing any more, for ever."""


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
def test_a_rank_that_loops_ends_the_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its heart beats, but the others wait for it."""
    (tmp_path / "sitecustomize.py").write_text(LOOPS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(progress, "LATE", 1.5)
    cluster = Cluster(2)
    memory, part = memory_of("paged", ROOMY), cluster.load(folder)
    leader, process = cluster.ranks.leader, cluster.ranks.children[1]
    runner, _ = leader.engine(part, PoolLayout.of(memory, save_logprobs=False))
    looping = Signalling(runner, process, signal.SIGUSR1)
    executor = ModelExecutor(InputBuilder(memory, part.loaded.shape.vocab_size), looping)
    record = serve(engine_of("paged", memory, executor, "auto"), FixedArrivals(requests_of(folder, GREEDY)))
    cluster.ranks.close()
    assert record.crash is not None
    assert record.crash.startswith(f"RankError: rank 1 of 2 (process {process.pid}) hangs: the others have")
    assert process.returncode == -signal.SIGKILL


@given(
    seconds=st.floats(0, 60),
    waits=st.lists(st.tuples(st.floats(0, 90), st.integers(0, 1), st.booleans()), max_size=9),
)
def test_only_who_is_late_in_an_iteration_hangs(
    seconds: float, waits: list[tuple[float, int, bool]]
) -> None:
    """Long iterations are no alarm, nor loading, nor a rank that goes on."""
    own, stragglers, now, since, number = Progress(), Stragglers(), 0.0, None, 3
    own.seconds, own.standing = seconds, Standing(5)
    before = None
    for wait, steps, is_excused in waits:
        now, number = now + wait, number + steps
        standing = Standing(number, is_excused)
        is_behind = number < 5 and not is_excused
        since = None if not is_behind else now if before != standing or since is None else since
        before = standing
        late = stragglers.late(own, {1: standing}, now)
        expected = since is not None and now - since > max(LATE, TIMES * seconds)
        assert list(late) == ([1] if expected else [])
    assert Standing.parsed(str(own.standing)) == own.standing


def test_no_rank_outlives_its_run() -> None:
    """Whatever kills rank 0, even without a chance to say goodbye."""
    script = (
        "import os, signal\n"
        "from ranks import Cluster\n"
        "cluster = Cluster(2)\n"
        "print(cluster.ranks.children[1].pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    tests = str(Path(__file__).resolve().parents[1])
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *filter(None, sys.path)])}
    run = subprocess.run([sys.executable, "-c", script], env=environ, stdout=subprocess.PIPE, check=False)
    assert run.returncode == -signal.SIGKILL
    rank = Path(f"/proc/{int(run.stdout)}/stat")
    end = time.perf_counter() + LIMIT
    while rank.exists() and rank.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.perf_counter() < end, "a rank has survived"
        time.sleep(0.05)


class Process:
    """A process of which only the end is known."""

    def __init__(self, code: int | None = None) -> None:
        self.pid = os.getpid()
        self._code = code

    def poll(self) -> int | None:
        return self._code


@pytest.mark.parametrize(
    ("codes", "faults", "sentence"),
    [
        ({1: None, 2: -9}, {}, "rank 2 of 3 (process {pid}) was killed by SIGKILL"),
        ({1: LOST, 2: 3}, {}, "rank 2 of 3 (process {pid}) ended with exit code 3"),
        ({1: None, 2: 1}, {2: "OSError: no"}, "rank 2 of 3 (process {pid}) failed with OSError: no"),
        ({}, {1: "KVCacheError: too large"}, "rank 1 of 3 failed with KVCacheError: too large"),
        ({}, {}, "rank 1 of 3 hangs: it sent no heartbeat for"),
    ],
)  # fmt: skip
def test_the_rank_at_fault_is_named(
    monkeypatch: pytest.MonkeyPatch, codes: dict[int, int | None], faults: dict[int, str], sentence: str
) -> None:
    """One that has only lost the others is not."""
    monkeypatch.setattr(watch, "START", 1.0)
    monkeypatch.setattr(watch, "SILENCE", 1.0)
    store, losses = HashStore(), []
    for rank, fault in faults.items():
        store.set(f"fault/{rank}", fault)
    children = {rank: Process(code) for rank, code in codes.items()}
    watching = watch.Watch(store, 3, children, Progress(), lambda: losses.append(True))
    with pytest.raises(RankError) as error:
        watching.explain(RuntimeError("connection closed"))
    watching.close()
    assert str(error.value).startswith(sentence.format(pid=os.getpid()))
    assert losses == [True]


def test_hearts_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BEAT", 0.05)
    monkeypatch.setattr(watch, "START", 1.0)
    monkeypatch.setattr(watch, "SILENCE", 1.0)
    store = HashStore()
    watch.Heart(store, 1, Progress())
    watching = watch.Watch(store, 2, {}, Progress(), lambda: None)
    time.sleep(1.3)
    watching.close()
    watching.explain(None)
    assert watching.failure is None
