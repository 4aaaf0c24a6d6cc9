"""Many requests in a pool for one and a half, served until the last has ended."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from pagedbench.clock import VirtualClock
from pagedbench.engine import Engine
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, Status
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.simulation.executor import Simulated
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager
    from pagedbench.metrics.records import RunRecord
    from pagedbench.scheduling.scheduler import Limits

MOST_STEPS = 20_000
KINDS = [{}, {}, {"n": 2, "temperature": 1.0}, {"beam_width": 2}]


def crowd(seed: object, number: int, longest: int, *, outputs: tuple[int, int], last_arrival: int = 0):
    """Greedy requests, samples and beams, whose prompts are of five texts."""
    choose = random.Random(str(seed))
    requests = [
        Request(
            index,
            float(choose.randint(0, last_arrival)) if index else 0.0,
            Prompt(choose.randint(1, longest), index % 5),
            SamplingParams(choose.randint(*outputs), **choose.choice(KINDS)),
        )
        for index in range(number)
    ]
    return sorted(requests, key=lambda request: request.arrival_time)


def serve(requests: list[Request], memory: KVManager, limits: Limits) -> RunRecord:
    """No livelock, no starvation and no request forgotten; the tables are right after each iteration."""
    engine = Engine(IterationLevel(memory, limits), memory, Simulated(), VirtualClock(lambda batch: 1.0))
    source = FixedArrivals(requests)
    memory.foresee(requests)
    engine.start()
    for _ in range(MOST_STEPS):
        if not engine.step(source) and (source.has_more or engine.scheduler.has_unfinished):
            source.wait(engine.clock)  # raises Stalled if nothing will ever happen
        memory.check_integrity()
        if not source.has_more and not engine.scheduler.has_unfinished:
            break
    record = engine.finish(source)
    assert not record.interrupted
    assert {item.status for item in record.requests} == {Status.FINISHED}
    assert memory.num_owned == 0
    return record
