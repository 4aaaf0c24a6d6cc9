"""Requests of live clients: added from another thread, ended by a stop token, given up in any state."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pagedbench.clock import VirtualClock, WallClock
from pagedbench.engine import Engine
from pagedbench.memory.contiguous import EqualExtents, MaxReservation
from pagedbench.memory.paged import Paged
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, Status
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.request_level import RequestLevel
from pagedbench.scheduling.samples import Samples
from pagedbench.scheduling.scheduler import Limits
from pagedbench.workload.arrivals import FixedArrivals
from pagedbench.workload.live import LiveArrivals
from scheduling.in_chunks import InChunks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.memory.manager import KVManager
    from pagedbench.request import Sequence, SequenceGroup
    from pagedbench.scheduling.batch import Batch

STOP = 7


class Counting:
    """An executor that says 1, 2, 3 ..., each sample shifted by its number."""

    def execute(self, batch: Batch) -> Samples:
        sampled = [sequence for prefill in batch.prefills for sequence in prefill.sampled]
        candidates: list[Sequence] = [*sampled, *batch.decodes]
        sequences = [sequence for sequence in candidates if not sequence.has_ended]
        tokens = [len(sequence.output_ids) + 1 + sequence.sequence_id for sequence in sequences]
        return Samples(sequences, tokens, [0.0] * len(tokens))


class Live(LiveArrivals):
    """A source that other threads fill, and that notes who has left."""

    def __init__(self) -> None:
        super().__init__(self._note)
        self._changed = threading.Condition()
        self.left: dict[int, SequenceGroup] = {}

    def _note(self, groups: Iterable[SequenceGroup], now: float) -> None:
        with self._changed:
            self.left.update({group.request.request_id: group for group in groups})
            self._changed.notify()

    def wait_for(self, request_id: int) -> SequenceGroup:
        with self._changed:
            assert self._changed.wait_for(lambda: request_id in self.left, timeout=20)
            return self.left[request_id]


def live(request_id: int, prompt_len: int, max_tokens: int, n: int = 1) -> Request:
    """A request of which nobody knows how long the reply will be."""
    temperature = 1.0 if n > 1 else 0.0
    sampling = SamplingParams(max_tokens, n, temperature=temperature, stop_token_ids=(STOP,))
    return Request(request_id, 0.0, Prompt(prompt_len, seed=request_id), sampling)


def engine_of(memory: KVManager, limits: Limits | None = None, max_chunk: int | None = None) -> Engine:
    kind = RequestLevel if isinstance(memory, EqualExtents) else IterationLevel
    scheduler = kind(memory, limits or Limits())
    if max_chunk is not None:
        scheduler = InChunks(memory, scheduler.limits, max_chunk)
    return Engine(scheduler, memory, Counting(), VirtualClock(lambda batch: 1.0))


def test_another_thread_adds_and_gives_up_requests() -> None:
    memory = Paged(640, 16, 512)
    gate = Gated()
    engine = Engine(IterationLevel(memory, Limits()), memory, gate, WallClock())
    source = Live()
    records = []
    thread = threading.Thread(target=lambda: records.append(engine.run(source)), daemon=True)
    thread.start()
    source.add(live(0, 20, 100))
    gate.let_through(7)
    assert source.wait_for(0).sequences[0].output_ids == [1, 2, 3, 4, 5, 6, STOP]
    source.add(live(1, 20, 3))
    gate.let_through(3)
    assert source.wait_for(1).sequences[0].output_ids == [1, 2, 3]
    endless = SamplingParams(400)
    source.add(Request(2, 0.0, Prompt(20), endless))
    while source.num_new:
        time.sleep(0.001)
    source.cancel(2)
    source.cancel(99)  # nobody has heard of it
    gate.open()
    assert source.wait_for(2).status is Status.ABORTED
    source.close()
    thread.join(timeout=20)
    assert not thread.is_alive()
    (record,) = records
    assert (record.owned_at_end, record.interrupted, len(record.requests)) == (0, False, 3)
    memory.check_integrity()


@pytest.mark.parametrize("kind", [Paged, MaxReservation, EqualExtents])
def test_a_stop_token_ends_a_reply_and_its_memory_comes_back_at_once(kind: type[KVManager]) -> None:
    memory = EqualExtents(640, 16, 128, 4) if kind is EqualExtents else kind(640, 16, 128)
    engine = engine_of(memory)
    record = engine.run(FixedArrivals([live(0, 20, 60), live(1, 9, 4), live(2, 30, 60)]))
    assert [item.num_tokens for item in record.requests] == [7, 4, 7]
    assert [len(item.outputs[0].token_ids) for item in record.requests] == [7, 4, 7]
    assert record.latencies.output_len.tolist() == [7, 4, 7]
    assert len(record.steps) == 7
    assert record.owned_at_end == 0
    memory.check_integrity()


def test_a_group_of_samples_ends_with_its_last() -> None:
    memory = Paged(640, 16, 128)
    record = engine_of(memory).run(FixedArrivals([live(0, 20, 60, n=3)]))
    outputs = [output.token_ids for output in record.requests[0].outputs]
    assert outputs == [(1, 2, 3, 4, 5, 6, 7), (2, 3, 4, 5, 6, 7), (3, 4, 5, 6, 7)]
    assert (record.requests[0].num_tokens, record.owned_at_end) == (7, 0)


class Gated(Counting):
    """Waits before each iteration until another thread lets it run."""

    def __init__(self) -> None:
        self._waits = threading.Semaphore(0)
        self._may_run = threading.Semaphore(0)
        self._is_open = False

    def execute(self, batch: Batch) -> Samples:
        self._waits.release()
        assert self._is_open or self._may_run.acquire(timeout=20)
        return super().execute(batch)

    def wait(self) -> None:
        """Return when an iteration is about to run."""
        assert self._waits.acquire(timeout=20)

    def let_run(self) -> None:
        """Let it run, and wait for the next."""
        self._may_run.release()
        self.wait()

    def let_through(self, number: int) -> None:
        """Let so many iterations run, now or when they come."""
        self._may_run.release(number)

    def open(self) -> None:
        """Let all run."""
        self._is_open = True
        self._may_run.release()


@pytest.mark.parametrize("status", [Status.WAITING, Status.PREFILLING, Status.RUNNING, Status.SWAPPED])
@pytest.mark.parametrize("n", [1, 2])
def test_another_thread_aborts_a_request_in_any_state(status: Status, n: int) -> None:
    memory, source, gate = Paged(4 * (10 + 6 * n), 4, 128, prefix_caching=True), Live(), Gated()
    scheduler = InChunks(memory, Limits(preemption="swap"), max_chunk=8)
    engine = Engine(scheduler, memory, gate, WallClock())
    records = []
    thread = threading.Thread(target=lambda: records.append(engine.run(source)), daemon=True)
    source.add(live(0, 12, 50))  # ends with a stop token
    for i in (1, 2, 3, 4):
        sampling = SamplingParams(30, n, temperature=1.0)
        source.add(Request(i, 0.0, Prompt(20, seed=i), sampling))
    thread.start()
    gate.wait()
    groups = {group.order: group for group in scheduler.unfinished()}
    while not (victims := [group for group in groups.values() if group.order and group.status is status]):
        gate.let_run()
    source.cancel(victims[-1].order)
    gate.open()
    assert source.wait_for(victims[-1].order).status is Status.ABORTED
    source.close()
    thread.join(timeout=20)
    assert not thread.is_alive()
    others = {i: item.status for i, item in source.left.items() if i != victims[-1].order}
    assert others == dict.fromkeys(set(range(5)) - {victims[-1].order}, Status.FINISHED)
    assert source.left[0].sequences[0].output_ids == [1, 2, 3, 4, 5, 6, STOP]
    assert (records[0].owned_at_end, scheduler.num_sequences, scheduler.num_prefilling) == (0, 0, 0)
    memory.check_integrity()


@pytest.mark.parametrize("max_chunk", [None, 8])
@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_a_request_is_given_up_in_any_state(preemption: str, max_chunk: int | None) -> None:
    """Each request of a crowded pool, at many steps of its life: the others are served as ever."""
    requests = [Request(i, 0.0, Prompt(20, seed=i), SamplingParams(30)) for i in range(5)]
    states = set()
    for victim in range(5):
        for step in range(0, 60, 3):
            memory = Paged(16 * 9, 16, 128, prefix_caching=True)
            engine = engine_of(memory, Limits(preemption=preemption), max_chunk)
            source = Live()
            for request in requests:
                source.add(request)
            source.close()
            engine.start()
            for _ in range(step):
                engine.step(source)
            states |= {
                item.status for item in engine.scheduler.unfinished() if item.request.request_id == victim
            }
            before = memory.num_owned
            is_there = engine.scheduler.abort(victim)
            memory.check_integrity()
            assert memory.num_owned <= before
            while engine.scheduler.has_unfinished:
                engine.step(source)
            record = engine.finish(source)
            assert record.owned_at_end == 0
            for item in record.requests:
                is_victim = is_there and item.request.request_id == victim
                assert item.status is (Status.ABORTED if is_victim else Status.FINISHED)
                assert item.num_tokens == (0 if is_victim else 30)
    expected = {Status.WAITING, Status.RUNNING}
    expected |= {Status.SWAPPED} if preemption == "swap" else set()
    expected |= {Status.PREFILLING} if max_chunk else set()
    assert states == expected


def test_in_a_closed_batch_the_row_stays_until_its_end() -> None:
    memory = EqualExtents(640, 16, 128, 4)
    engine, source = engine_of(memory), Live()
    for i, max_tokens in enumerate((5, 9)):
        source.add(Request(i, 0.0, Prompt(20), SamplingParams(max_tokens)))
    source.close()
    engine.start()
    engine.step(source)
    assert engine.scheduler.abort(1)
    assert source.left == {}
    engine.step(source)
    assert source.left[1].status is Status.ABORTED
    while engine.scheduler.has_unfinished:
        engine.step(source)
    record = engine.finish(source)
    assert (len(record.steps), record.owned_at_end) == (5, 0)
    assert [item.num_tokens for item in record.requests] == [5, 0]


def test_in_a_closed_batch_a_request_that_has_ended_cannot_be_given_up() -> None:
    """Neither one that has all its tokens, nor one that was given up before."""
    memory = EqualExtents(640, 16, 128, 4)
    engine, source = engine_of(memory), Live()
    source.add(live(0, 20, 60))  # ends with its seventh token
    for i, max_tokens in ((1, 3), (2, 9)):
        source.add(Request(i, 0.0, Prompt(20), SamplingParams(max_tokens)))
    source.close()
    engine.start()
    for _ in range(7):
        engine.step(source)
    assert not engine.scheduler.abort(0)
    assert not engine.scheduler.abort(1)
    assert [engine.scheduler.abort(2) for _ in range(2)] == [True, False]
    while engine.scheduler.has_unfinished:
        engine.step(source)
    record = engine.finish(source)
    statuses = {item.request.request_id: item.status for item in record.requests}
    assert statuses == {0: Status.FINISHED, 1: Status.FINISHED, 2: Status.ABORTED}
    assert (len(record.requests), record.owned_at_end) == (3, 0)
    memory.check_integrity()


def test_two_engines_take_turns_in_one_virtual_time() -> None:
    """Stepped by whoever is behind, each serves as it would alone."""
    sources = [
        FixedArrivals([Request(i, 0.7 * i, Prompt(20), SamplingParams(9)) for i in range(k, 12, 2)])
        for k in range(2)
    ]
    alone = [engine_of(Paged(640, 16, 128)).run(FixedArrivals(source._requests)) for source in sources]
    engines = [engine_of(Paged(640, 16, 128)) for _ in sources]
    for engine in engines:
        engine.start()
    times = []
    while pairs := [
        (engine.clock.now, k)
        for k, engine in enumerate(engines)
        if sources[k].has_more or engine.scheduler.has_unfinished
    ]:
        now, k = min(pairs)
        times.append(now)
        if not engines[k].step(sources[k]):
            sources[k].wait(engines[k].clock)
    assert times == sorted(times)
    for engine, source, expected in zip(engines, sources, alone, strict=True):
        record = engine.finish(source)
        assert np.array_equal(record.steps.end, expected.steps.end)
