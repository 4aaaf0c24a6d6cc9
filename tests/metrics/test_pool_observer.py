"""The log of events tells all: from it alone, every block's owners are known at every iteration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.rebuilding import observed, rebuilt
from pagedbench.config import ConfigError
from pagedbench.memory.contiguous import MaxReservation
from pagedbench.memory.groups.hybrid import Hybrid
from pagedbench.memory.layer_group import LayerGroup
from pagedbench.memory.paged import Paged
from pagedbench.memory.pool_spec import PoolSpec
from pagedbench.memory.virtual.extents import VirtualExtents
from pagedbench.metrics.event_log import NONE, Event
from pagedbench.metrics.placement_log import DEVICE, HOST
from pagedbench.metrics.pool_observer import observe
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.admission import ADMISSIONS
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.scheduler import Limits
from pagedbench.systems import SYSTEMS
from serving import BLOCK_SIZE, MAX_LEN, memory_of

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager
    from pagedbench.metrics.event_log import EventTable

COMMON = Prompt(3 * BLOCK_SIZE, seed=99)


def check(system: str, memory: KVManager, requests: list[Request], limits: Limits) -> EventTable:
    log, record, moments = observed(system, memory, requests, limits)
    table = log.table(record.steps)
    assert list(rebuilt(table, len(record.steps))) == moments
    assert len(moments) == len(record.steps)
    assert sum(table.event == Event.PREEMPT) == len(record.preemptions)
    assert sum(table.event == Event.FINISH) == len(requests)
    assert (table.t_s[1:] >= table.t_s[:-1]).all()
    return table


def requests_like(kinds: list[int], *, alike: bool = False) -> list[Request]:
    """Requests of one sequence, of parallel samples and of beams; their prompts may begin alike."""
    samplings = (
        SamplingParams(1),
        SamplingParams(1, n=3, temperature=1.0),
        SamplingParams(1, beam_width=3),
    )
    requests = []
    for i, kind in enumerate(kinds):
        prompt_len, output_len = 5 + 7 * i % 31, 3 + 11 * i % 29
        prompt = Prompt(prompt_len, seed=i % 4)
        if alike:
            ids = (*COMMON.ids(500).tolist(), *prompt.ids(500).tolist())
            prompt = Prompt(len(ids), token_ids=ids)
        sampling = replace(samplings[kind], max_tokens=output_len)
        requests.append(Request(i, 0.002 * i, prompt, sampling))
    return requests


@settings(max_examples=100)
@given(
    kinds=st.lists(st.integers(0, 2), min_size=4, max_size=12),
    num_blocks=st.integers(14, 44),
    preemption=st.sampled_from(["auto", "recompute", "swap"]),
    prefill=st.sampled_from(["mixed", "separate", "chunked"]),
    admission=st.sampled_from(["watermark", "prompt-first-chunk"]),
    prefix_caching=st.booleans(),
    registered=st.booleans(),
    alike=st.booleans(),
)
def test_owners_are_rebuilt_at_every_iteration(
    kinds: list[int],
    num_blocks: int,
    preemption: str,
    prefill: str,
    admission: str,
    prefix_caching: bool,
    registered: bool,
    alike: bool,
) -> None:
    memory = Paged(num_blocks * BLOCK_SIZE, BLOCK_SIZE, MAX_LEN, prefix_caching=prefix_caching)
    if registered:
        memory.register_prefix(Prompt(COMMON.length, token_ids=tuple(COMMON.ids(500).tolist())))
    limits = Limits(
        preemption=preemption, prefill=prefill, max_num_batched_tokens=10, admission=ADMISSIONS[admission]()
    )
    check("paged", memory, requests_like(kinds, alike=alike), limits)


@pytest.mark.parametrize(
    ("preemption", "kinds", "events"),
    [
        ("recompute", [0] * 12, [Event.PREEMPT, Event.EVICT, Event.HIT, Event.KEEP]),
        ("swap", [0, 1, 2] * 4, [Event.PREEMPT, Event.SWAP_OUT, Event.SWAP_IN, Event.COPY, Event.SHARE]),
    ],
)
def test_small_pools_make_every_kind_of_event(
    preemption: str, kinds: list[int], events: list[Event]
) -> None:
    memory = Paged(16 * BLOCK_SIZE, BLOCK_SIZE, MAX_LEN, prefix_caching=preemption == "recompute")
    table = check("paged", memory, requests_like(kinds, alike=True), Limits(preemption=preemption))
    assert set(events) <= set(table.event.tolist())


@pytest.mark.parametrize("system", [name for name in SYSTEMS if name != "paged"])
def test_extents_are_rows_too(system: str) -> None:
    kinds = [0, 0, 1, 1, 0, 0]
    memory = memory_of(system, 600)
    table = check(system, memory, requests_like(kinds), Limits())
    allocated = table.event == Event.ALLOCATE
    num_addresses = memory.num_slots if memory.pages is None else memory.pages.num_addresses
    assert (table.block[allocated] + table.tokens[allocated] <= num_addresses).all()
    assert allocated.sum() == sum(item.sampling.width for item in requests_like(kinds))


@pytest.mark.parametrize("preemption", ["recompute", "swap"])
@pytest.mark.parametrize("prefix_caching", [False, True])
def test_several_layer_groups_are_rows_of_one_pool(preemption: str, prefix_caching: bool) -> None:
    """What slides out of a window is freed in the table of events, too."""
    groups = (
        LayerGroup((0, 1)),
        LayerGroup((2, 3), window=2 * BLOCK_SIZE + 1),
        LayerGroup((4, 5), 7, sinks=5),
    )
    pool = PoolSpec(
        60 * BLOCK_SIZE, BLOCK_SIZE, MAX_LEN, prefix_caching=prefix_caching, layer_groups=groups
    )
    kinds = [0, 1, 2, 0] * 4
    table = check("paged", Hybrid(pool), requests_like(kinds, alike=True), Limits(preemption=preemption))
    events = {Event.PREEMPT, Event.HIT} if prefix_caching else {Event.PREEMPT}
    assert events <= set(table.event.tolist())


@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_extents_come_and_go_with_preemption(preemption: str) -> None:
    """On the host there are no rows for extents: their blocks there have no counterpart on the device."""
    memory = VirtualExtents(20 * BLOCK_SIZE, BLOCK_SIZE, MAX_LEN)
    table = check("vattention", memory, requests_like([0, 1, 2] * 4), Limits(preemption=preemption))
    assert (table.event == Event.PREEMPT).sum() > 2
    assert set(table.tier[table.event == Event.ALLOCATE].tolist()) == {DEVICE}


def test_tokens_say_how_full_a_block_is() -> None:
    memory = Paged(40 * BLOCK_SIZE, BLOCK_SIZE, MAX_LEN)
    request = Request(7, 0.0, Prompt(BLOCK_SIZE + 2), SamplingParams(BLOCK_SIZE))
    table = check("paged", memory, [request], Limits())
    got = [(Event(e).name, t) for e, t in zip(table.event.tolist(), table.tokens.tolist(), strict=True)]
    assert got == [
        ("ADMIT", BLOCK_SIZE + 2),
        ("ALLOCATE", BLOCK_SIZE),
        ("ALLOCATE", 2),
        ("ALLOCATE", 1),
        ("FREE", BLOCK_SIZE),
        ("FREE", BLOCK_SIZE),
        ("FREE", 1),
        ("FINISH", NONE),
    ]
    assert set(table.request_id.tolist()) == {7}


def test_a_preemption_stands_before_what_its_victim_loses() -> None:
    memory = Paged(26 * BLOCK_SIZE, BLOCK_SIZE, MAX_LEN)
    table = check("paged", memory, requests_like([0] * 12), Limits(preemption="recompute"))
    (rows,) = (table.event == Event.PREEMPT).nonzero()
    assert len(rows) > 0
    for row in rows:
        assert table.event[row + 1] == Event.FREE
        assert table.request_id[row + 1] == table.request_id[row]
        lost = (table.request_id[:row] == table.request_id[row]) & (table.event[:row] == Event.FREE)
        assert not (lost & (table.step[:row] == table.step[row])).any()


def test_evictions_name_the_request_that_needed_the_room() -> None:
    memory = Paged(26 * BLOCK_SIZE, BLOCK_SIZE, MAX_LEN, prefix_caching=True)
    table = check("paged", memory, requests_like([0] * 12), Limits())
    (rows,) = (table.event == Event.EVICT).nonzero()
    assert len(rows) > 0
    for row in rows:
        after = row + 1 + (table.block[row + 1 :] == table.block[row]).argmax()
        assert table.event[after] == Event.ALLOCATE
        assert table.request_id[after] == table.request_id[row]


def test_what_nobody_observes_has_its_own_methods() -> None:
    memory = Paged(40 * BLOCK_SIZE, BLOCK_SIZE, MAX_LEN)
    scheduler = IterationLevel(memory, Limits())
    assert "allocate" not in vars(memory)
    observe(scheduler, memory, BLOCK_SIZE)
    assert "allocate" in vars(memory)


class Slotted(MaxReservation):
    """A manager whose methods cannot be replaced."""

    def __setattr__(self, name: str, value: object) -> None:
        if callable(value):
            raise AttributeError(name)
        super().__setattr__(name, value)


def test_a_manager_that_cannot_be_observed_is_refused_in_one_sentence() -> None:
    memory = Slotted(40 * BLOCK_SIZE, BLOCK_SIZE, MAX_LEN)
    with pytest.raises(ConfigError, match="--save-events cannot observe Slotted: its methods cannot"):
        observe(IterationLevel(memory, Limits()), memory, BLOCK_SIZE)


def test_both_tiers_are_told_apart() -> None:
    memory = Paged(26 * BLOCK_SIZE, BLOCK_SIZE, MAX_LEN)
    table = check("paged", memory, requests_like([1] * 8), Limits(preemption="swap"))
    tier_of = {Event(e): set(table.tier[table.event == e].tolist()) for e in set(table.event.tolist())}
    assert tier_of[Event.SWAP_OUT] == {DEVICE}
    assert tier_of[Event.SWAP_IN] == {HOST}
    assert tier_of[Event.ALLOCATE] == {DEVICE, HOST}
    assert tier_of[Event.PREEMPT] == {NONE}


def test_events_of_an_iteration_that_did_not_end_have_no_time() -> None:
    memory = Paged(26 * BLOCK_SIZE, BLOCK_SIZE, MAX_LEN)
    log, record, _ = observed("paged", memory, requests_like([0] * 4), Limits())
    steps, whole = record.steps, log.table(record.steps)
    cut = log.table(replace(steps, start=steps.start[:3], end=steps.end[:3]))
    is_known = whole.step < 3
    assert np.isnan(cut.t_s).tolist() == (~is_known).tolist()
    assert cut.t_s[is_known].tolist() == whole.t_s[is_known].tolist()
