"""What pages add to a simulated iteration: what it waits for, and what exceeds the model's work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagedbench.backend import SimulatedBackend
from pagedbench.config import ConfigError, RunConfig
from pagedbench.memory.pages import PageChanges, PageCounts, PageRun
from pagedbench.plan import make_plan
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.batch import Batch
from pagedbench.simulation.page_costs import PageCost, PageCosts, page_cost_of
from pagedbench.workload.arrivals import FixedArrivals

EMPTY = Batch(0, (), (), 0, 1, 0, None)


@pytest.mark.parametrize(
    ("changes", "seconds", "ahead"),
    [
        (PageChanges([PageRun(0, 3)], [PageRun(9, 2), PageRun(3, 1)], []), 1 + 10 * 3.3, 0),
        (PageChanges([], [], [PageRun(3, 1)]), 1 + (11 - 1), 11),  # longer than the model's second
        (PageChanges([], [], []), 1, 0),
        (None, 1, 0),
    ],
)
def test_an_iteration_waits_for_what_it_needs(
    changes: PageChanges | None, seconds: float, ahead: float
) -> None:
    """Ten tensors, each with a call a run."""
    counts = PageCounts()
    costs = PageCosts(lambda batch: 1.0, PageCost(1.0, 0.0, 0.1, "stated"), 10, counts)
    assert costs.step_time(replace(EMPTY, pages=changes)) == pytest.approx(seconds)
    assert counts.commit_time == pytest.approx(seconds - 1)
    assert counts.ahead_time == pytest.approx(ahead)


def test_pages_behind_the_models_work_cost_nothing() -> None:
    costs = PageCosts(lambda batch: 60.0, PageCost(1.0, 0.0, 0.1, "stated"), 10, PageCounts())
    assert costs.step_time(replace(EMPTY, pages=PageChanges([], [], [PageRun(3, 5)]))) == 60


def test_costs_by_size() -> None:
    assert page_cost_of("sim:a100-40gb", 2**21).commit == 40e-6
    with pytest.raises(ConfigError, match="one of 64KiB, 128KiB, 256KiB, 2MiB"):
        page_cost_of("sim:a100-40gb", 4096)
    small, middle = page_cost_of("sim:here.json", 4096), page_cost_of("sim:here.json", 65536)
    assert (middle.commit, middle.call) == (16 * small.commit, small.call)


def test_the_first_iteration_commits_the_prompt_and_later_ones_what_is_missing() -> None:
    """OPT-13B: 204 tokens in a page of 2 MiB, 80 tensors; nothing is committed ahead of need."""
    options = {"model": "opt-13b", "device": "sim:a100-40gb", "cost_model": "published"}
    requests = [Request(0, 0.0, Prompt(204), SamplingParams(3))]
    ends = {}
    for system, more in {"orca-oracle": {}, "vattention": {"commit_ahead": 0}}.items():
        plan = make_plan(RunConfig(system=system, **options, **more))
        record = SimulatedBackend().make_engine(plan).run(FixedArrivals(requests))
        ends[system] = record.steps.end
    assert (ends["vattention"] - ends["orca-oracle"]).tolist() == pytest.approx(
        [80 * 40e-6, 2 * 80 * 40e-6, 2 * 80 * 40e-6]
    )
    counts = record.page_counts
    assert counts is not None
    assert (counts.committed, counts.ahead, counts.given_back, counts.peak) == (2, 0, 0, 2)
    assert counts.commit_time == pytest.approx(2 * 80 * 40e-6)
