"""An iteration costs what changes in it: not what runs, and not what came before."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pagedbench.backend import SimulatedBackend
from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from pagedbench.metrics.records import RunRecord


def num_calls(function: Callable[[], object]) -> int:
    """How many Python functions `function` calls: a measure of work that no machine disturbs."""
    count = 0
    gc.disable()  # when it runs depends on what ran before, and it calls what others have hung up in it

    def on_event(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(on_event)
    try:
        function()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def calls_and_steps(requests: list[Request], **options: object) -> tuple[int, int]:
    """Of one run: function calls and iterations."""
    plan = make_plan(RunConfig(model="opt-13b", device="sim:a100-40gb", **options))
    engine = SimulatedBackend().make_engine(plan)
    records: list[RunRecord] = []
    calls = num_calls(lambda: records.append(engine.run(FixedArrivals(requests))))
    return calls, len(records[0].steps)


def requests(number: int, gap: float) -> list[Request]:
    lengths = np.random.default_rng(1).integers(10, 80, size=(number, 2)).tolist()
    return [Request(i, gap * i, Prompt(p), SamplingParams(o)) for i, (p, o) in enumerate(lengths)]


@pytest.mark.parametrize("system", ["paged", "orca-max", "fastertransformer"])
@pytest.mark.parametrize("gap", [0.5, 0.0], ids=["in time", "all at once"])
def test_the_last_iterations_of_a_long_run_cost_no_more_than_the_first(system: str, gap: float) -> None:
    calls, steps = zip(
        *(
            calls_and_steps(requests(number, gap), system=system, kv_slots=1600, max_model_len=200)
            for number in (100, 500)
        ),
        strict=True,
    )
    assert calls[1] / steps[1] < 1.15 * calls[0] / steps[0]


@pytest.mark.parametrize("system", ["paged", "orca-max"])
def test_sequences_that_grow_within_their_blocks_cost_nothing(system: str) -> None:
    """A hundred iterations more take the same work for two sequences as for sixty."""
    added = []
    for number in (2, 60):
        short, long = (
            calls_and_steps(
                [Request(i, 0.0, Prompt(1), SamplingParams(output_len)) for i in range(number)],
                system=system,
                block_size=256,
                max_model_len=256,
            )
            for output_len in (100, 200)
        )
        assert long[1] - short[1] == 100
        added.append(long[0] - short[0])
    assert added[0] == added[1]
