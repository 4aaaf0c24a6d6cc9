"""Progress reads what a running engine has counted, and says how long it may take."""

from __future__ import annotations

import io
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from rich.console import Console

from pagedbench.memory.usage import MemoryUsage
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.show import progress
from pagedbench.show.progress import Progress, estimated_time
from pagedbench.workload.trace import Trace

if TYPE_CHECKING:
    from pagedbench.engine import Engine

REQUESTS = tuple(Request(i, 2.0 * i, Prompt(5, seed=i), SamplingParams(100)) for i in range(4))
TRACE = Trace(name="t", requests=REQUESTS, source="by hand", synthetic=True, arrival="by hand")


def engine(*, now: float, tokens: int, is_virtual: bool = True) -> Any:
    usage = MemoryUsage(token_states=50, reserved=10, internal=10, rounding=5, unusable=15, free=10)
    recorder = SimpleNamespace(
        capacity=100, num_arrived=3, num_finished=1, num_tokens=tokens, last_batch=(2, 1), last_usage=usage
    )
    return SimpleNamespace(recorder=recorder, clock=SimpleNamespace(now=now, is_virtual=is_virtual))


def watch(running: Any, mode: str = "none") -> Progress:
    return Progress(cast("Engine", running), TRACE, mode)


def test_snapshot_shows_counts_and_the_speed_since_the_last_one() -> None:
    running = engine(now=4.0, tokens=100)
    seen = watch(running)
    first = seen.snapshot()
    assert (first.arrived, first.num_requests, first.done) == (3, 4, 1)
    assert (first.running, first.waiting, first.kv_use) == (2, 1, 75.0)
    assert first.tokens_per_second == 25.0
    running.clock.now, running.recorder.num_tokens = 5.0, 160
    assert seen.snapshot().tokens_per_second == 60.0


def test_time_left_is_unknown_then_by_tokens_then_by_arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    unknown, by_tokens = watch(engine(now=0.0, tokens=0)), watch(engine(now=1.0, tokens=100))
    by_arrivals = watch(engine(now=1.0, tokens=399, is_virtual=False))
    monkeypatch.setattr(time, "perf_counter", lambda: 10.0)
    assert unknown.snapshot().left is None
    assert by_tokens.snapshot().left == 30.0
    assert by_arrivals.snapshot().left == 5.0


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=True, highlight=False)
    monkeypatch.setattr(progress, "stderr_console", lambda: console)
    monkeypatch.setattr(progress, "QUIET_TIME", 0.05)
    monkeypatch.setattr(progress, "LINE_TIME", 0.05)
    return text


@pytest.mark.parametrize(
    ("mode", "words"), [("plain", "arrived 3/4, done 1, running 2"), ("rich", "tokens/s")]
)
def test_long_runs_are_shown(stderr: io.StringIO, mode: str, words: str) -> None:
    with watch(engine(now=4.0, tokens=100), mode):
        for _ in range(3000):
            if words in stderr.getvalue():
                return
            time.sleep(0.02)
    pytest.fail("nothing was shown for a minute")


@pytest.mark.parametrize("mode", ["plain", "rich", "none"])
def test_short_runs_are_not(stderr: io.StringIO, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_TIME", 60.0)
    monkeypatch.setattr(progress, "LINE_TIME", 60.0)
    with watch(engine(now=4.0, tokens=100), mode):
        pass
    assert stderr.getvalue() == ""


def test_estimate_is_the_longer_of_arrivals_and_tokens() -> None:
    assert estimated_time(TRACE, tokens_per_second=1000.0) == 6.0
    slow = 4.0 / progress.TOKENS_PER_WARM_UP_TOKEN  # what a warm-up shows that a run of 4 tokens/s follows
    assert estimated_time(TRACE, tokens_per_second=slow) == pytest.approx(100.0)
