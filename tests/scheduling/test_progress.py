"""Every policy, in pools for one request and a half: all requests finish, and nobody waits for nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.memory.evictions import EVICTIONS
from pagedbench.memory.paged import Paged
from pagedbench.memory.pages import KeptPages, PageSpec
from pagedbench.memory.virtual.extents import VirtualExtents
from pagedbench.metrics.formulas import summarize
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.admission import ADMISSIONS
from pagedbench.scheduling.return_modes import RETURN_MODES
from pagedbench.scheduling.scheduler import Limits
from pagedbench.scheduling.victims import VICTIMS
from scheduling.crowds import crowd, serve

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager


class Prices:
    """A price of each way back that changes from token to token."""

    def recompute_time(self, num_tokens: int) -> float:
        return float(num_tokens * 7 % 11)

    def swap_time(self, num_slots: int) -> float:
        return float(num_slots * 5 % 11)


@settings(max_examples=80)
@given(data=st.data())
def test_all_requests_finish_under_all_policies(data: st.DataObject) -> None:
    """No livelock and no starvation, whatever is preempted, evicted and admitted, and how it comes back."""
    size = data.draw(st.sampled_from([1, 2, 4, 5]))
    watermark = data.draw(st.sampled_from([0.0, 0.01, 0.1]))
    memory: KVManager = Paged(
        140,
        size,
        96,
        prefix_caching=data.draw(st.booleans()),
        watermark=watermark,
        eviction=EVICTIONS[data.draw(st.sampled_from([*EVICTIONS]))](),
        host_cache_slots=data.draw(st.sampled_from([0, 40])),
    )
    if data.draw(st.integers(0, 3)) == 0:
        kept, ahead = data.draw(st.sampled_from(KeptPages)), data.draw(st.sampled_from([0, 8]))
        pages = PageSpec(data.draw(st.integers(1, 9)), 4, ahead, kept)
        memory = VirtualExtents(200, size, 96, pages=pages, watermark=watermark)  # two full sequences
    limits = Limits(
        prefill=data.draw(st.sampled_from(["mixed", "separate", "chunked"])),
        max_num_batched_tokens=data.draw(st.integers(3, 80)),
        preemption=data.draw(st.sampled_from([*RETURN_MODES])),
        victim=VICTIMS[data.draw(st.sampled_from([*VICTIMS]))](),
        admission=ADMISSIONS[data.draw(st.sampled_from([*ADMISSIONS]))](),
        max_chunk_len=data.draw(st.sampled_from([None, 5])),
        costs=Prices(),
    )
    seed = data.draw(st.integers(0, 1000))
    serve(crowd(seed, 14, 60, outputs=(1, 20), last_arrival=40), memory, limits)


# What other engines had


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("admission", ADMISSIONS)
def test_no_livelock_of_two_that_preempt_each_other(victim: str, admission: str) -> None:
    """Each fits alone, both do not: tokens are computed again, but no more than a few times."""
    requests = [Request(i, 0.0, Prompt(40, i), SamplingParams(50)) for i in range(2)]
    memory = Paged(100, 4, 96, watermark=0.0)
    limits = Limits(
        prefill="chunked", max_num_batched_tokens=16, preemption="recompute", victim=VICTIMS[victim](),
        admission=ADMISSIONS[admission](),
    )  # fmt: skip
    record = serve(requests, memory, limits)
    assert len(record.steps) < 2 * (50 + 3) + 3 * 10


@pytest.mark.parametrize("admission", ["watermark", "prompt-first-chunk"])
def test_a_preempted_request_comes_back_when_its_cause_has_left(admission: str) -> None:
    """Not only when something else arrives, and not while the pool is mostly free."""
    requests = [Request(i, 0.0, Prompt(40, i), SamplingParams(50 - 20 * i)) for i in range(2)]
    limits = Limits(prefill="chunked", preemption="recompute", admission=ADMISSIONS[admission]())
    record = serve(requests, Paged(100, 4, 96, watermark=0.0), limits)
    assert record.preemptions
    finish = {item.request.request_id: item.finish_time for item in record.requests}
    for item in record.preemptions:
        assert item.resumed_step is not None
        assert record.steps.start[item.resumed_step] <= finish[item.cause.request.request_id]


def test_queueing_before_the_first_attempt_counts_after_a_preemption() -> None:
    requests = [Request(i, 0.0, Prompt(30, i), SamplingParams(40)) for i in range(3)]
    record = serve(requests, Paged(100, 4, 96, watermark=0.0), Limits(preemption="recompute"))
    preempted = [item for item in record.requests if item.num_preemptions]
    assert preempted
    for item in preempted:
        first = item.token_times(record.steps)[0]
        assert item.admit_time is not None
        assert item.admit_time <= first
    values = summarize(record)
    waits = [item.admit_time - item.request.arrival_time for item in record.requests]
    assert values["queue_time_mean_ms"] == pytest.approx(1e3 * sum(waits) / len(waits))


def test_a_cache_begins_cold() -> None:
    """A second run of the same requests finds what the first one found, not what it left."""
    requests = crowd(4, 14, 60, outputs=(1, 20), last_arrival=40)
    found = []
    for _ in range(2):
        memory = Paged(4_000, 4, 96, prefix_caching=True)
        serve(requests, memory, Limits())
        found.append(memory.num_prefix_hits)
    assert found[0] == found[1]
