"""Which policies are compared, and what stands beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagedbench.config import RunConfig
from pagedbench.tools.policies.entries import QUESTIONS, Bound, entries_of, setting_of

CONFIG = RunConfig(model="opt-13b", device="sim:a100-40gb")
CACHING = replace(CONFIG, prefix_caching=True)


def answers(entries):
    return [tuple(getattr(entry.config, name) for name in QUESTIONS) for entry in entries]


def test_without_a_question_each_answer_stands_beside_the_defaults():
    entries = entries_of([CACHING], asked=["rate", "kv_slots"])
    own = [entry for entry in entries if entry.bound is None]
    assert own[0].config == CACHING
    for entry in own[1:]:
        changed = [name for name in QUESTIONS if getattr(entry.config, name) != getattr(CACHING, name)]
        assert len(changed) == 1
    tried = {name: {getattr(entry.config, name) for entry in own} for name in QUESTIONS}
    assert tried["victim"] == {*QUESTIONS["victim"]} - {"oracle-shortest-left"}
    assert tried["eviction"] == {*QUESTIONS["eviction"]} - {"belady"}
    assert tried["admission"] == {"watermark", "reserve"}  # prompts have no chunks
    assert tried["preemption"] == {"auto", "swap", "cheapest"}  # auto recomputes single sequences


@pytest.mark.parametrize(
    ("options", "question", "answer", "is_tried"),
    [
        ({}, "eviction", "fifo", False),
        ({"prefix_caching": True}, "eviction", "fifo", True),
        ({}, "admission", "prompt-first-chunk", False),
        ({"prefill": "chunked"}, "admission", "prompt-first-chunk", True),
        ({}, "preemption", "recompute", False),
        ({"n": 2, "temperature": 1.0}, "preemption", "recompute", True),
        ({"beam_width": 2}, "preemption", "recompute", True),
    ],
)
def test_answers_without_effect_are_left_out(options, question, answer, is_tried):
    entries = entries_of([replace(CONFIG, **options)], asked=[])
    assert (answer in {getattr(entry.config, question) for entry in entries}) == is_tried


def test_lists_are_compared_as_they_are():
    configs = [
        replace(CACHING, victim=victim, eviction=eviction)
        for victim in ("latest", "random")
        for eviction in ("lru", "fifo")
    ]
    entries = entries_of(configs, asked=["victim", "eviction"])
    assert [entry.config for entry in entries if entry.bound is None] == configs
    assert [entry.bound for entry in entries[4:]] == [Bound.VICTIM, Bound.EVICTION, Bound.POOL]


def test_every_pool_has_its_bounds():
    configs = [replace(CONFIG, kv_slots=slots) for slots in (4000, 8000)]
    entries = entries_of(configs, asked=["kv_slots"])
    half = len(entries) // 2
    assert [entry.config.kv_slots for entry in entries] == [4000] * half + [8000] * half
    for part in (entries[:half], entries[half:]):
        assert [entry.bound for entry in part if entry.bound] == [Bound.VICTIM, Bound.POOL]
        assert answers(part) == answers(entries[:half])


def test_an_oracle_that_is_asked_for_stands_there_once():
    configs = [replace(CACHING, eviction=name) for name in ("lru", "belady")]
    entries = entries_of(configs, asked=["eviction"])
    assert [entry.config.eviction for entry in entries].count("belady") == 1
    assert next(entry for entry in entries if entry.config.eviction == "belady").bound is Bound.EVICTION


def test_belady_is_no_bound_where_nobody_knows_the_future():
    entries = entries_of([replace(RunConfig(), device="cpu", prefix_caching=True)], asked=["victim"])
    assert Bound.EVICTION not in [entry.bound for entry in entries]


def test_what_policies_share():
    assert setting_of(replace(CONFIG, victim="random", admission="reserve")) == CONFIG
    assert setting_of(replace(CONFIG, kv_slots=99)) != CONFIG


def test_systems_that_reserve_are_asked_nothing():
    entries = entries_of([replace(CONFIG, system="orca-max")], asked=[])
    assert [entry.bound for entry in entries] == [None, Bound.POOL]
