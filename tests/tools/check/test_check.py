"""The check's footprints: equal for equal code, and for each mistake a sentence that names what moved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pagedbench.config import ConfigError
from pagedbench.show.judgement import Outcome
from pagedbench.simulation.cost_model import LinearCostModel
from pagedbench.tools.check.case_run import run_case
from pagedbench.tools.check.findings import judge_case, judge_cases
from pagedbench.tools.check.footprint import Checkpoint, Footprint
from pagedbench.tools.check.matrix import CASES
from tools.check import mutations

if TYPE_CHECKING:
    from collections.abc import Callable

BY_NAME = {case.name: case for case in CASES}


@pytest.fixture(scope="module")
def unmodified() -> Callable[[str], Footprint]:
    """The footprint of a case, each taken once."""
    taken: dict[str, Footprint] = {}

    def footprint(name: str) -> Footprint:
        if name not in taken:
            taken[name] = run_case(BY_NAME[name])
        return taken[name]

    return footprint


@pytest.mark.parametrize("name", ["paged/swap-n4", "paged/beam4", "orca-pow2/n4", "fastertransformer/n4"])
def test_equal_code_leaves_equal_footprints(name: str, unmodified: Callable[[str], Footprint]) -> None:
    again = run_case(BY_NAME[name])
    assert again == unmodified(name)
    assert again.document() == unmodified(name).document()
    assert not again.is_faulty
    assert judge_case(name, unmodified(name), again).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("mutate", "name", "words"),
    [
        (mutations.leak_a_block_once, "paged/recompute", ["memory leaked: 1 block of 16 slots is owned"]),
        (mutations.leak_a_block_once, "paged/swap", ["memory leaked: 1 block of 16 slots is owned"]),
        (mutations.leak_a_block_once, "paged/shared-prefix", ["memory leaked: 1 block of 16 slots is"]),
        (mutations.leak_a_block_each_time, "paged/recompute", ["memory leaked: ", " blocks of 16 slots"]),
        (
            mutations.lose_a_free_block,
            "paged/recompute",
            ["do not match its tables", "free blocks does not match"],
        ),
        (mutations.leak_an_extent, "orca-pow2/sharegpt", ["extents and buddy chunks do not match"]),
        (mutations.lower_the_watermark, "paged/sharegpt", ["admission changed", "request", "at iteration"]),
        (mutations.preempt_the_oldest, "paged/recompute", ["other victims: at iteration", "instead of"]),
        (mutations.preempt_the_oldest, "paged/swap", ["other victims: at iteration", "instead of request"]),
        (
            mutations.keep_the_high_half,
            "orca-pow2/sharegpt",
            ["placement changed: at iteration", "starts at slot"],
        ),
        (mutations.keep_the_high_half, "orca-oracle/alpaca", ["placement changed", "starts at slot"]),
        (
            mutations.count_a_token_twice,
            "orca-max/blocks-of-32",
            ["token states is", "schedule is the"],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_mistake_is_named(
    mutate: Callable[[pytest.MonkeyPatch], None],
    name: str,
    words: list[str],
    unmodified: Callable[[str], Footprint],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = unmodified(name)
    mutate(monkeypatch)
    judgement = judge_case(name, before, run_case(BY_NAME[name]))
    assert judgement.outcome is Outcome.FAILED
    assert judgement.message.startswith(f"{name}: ")
    for word in words:
        assert word in judgement.message


def test_other_step_times_are_named_before_what_follows(
    unmodified: Callable[[str], Footprint], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, step_time = unmodified("paged/recompute"), LinearCostModel.step_time
    monkeypatch.setattr(LinearCostModel, "step_time", lambda self, batch: 1.01 * step_time(self, batch))
    message = judge_case("paged/recompute", before, run_case(BY_NAME["paged/recompute"])).message
    assert message.startswith("paged/recompute: step times changed: a prompt of 512 tokens takes ")


def test_a_footprint_survives_json(unmodified: Callable[[str], Footprint]) -> None:
    footprint = unmodified("paged/swap")
    again = Footprint.from_document(json.loads(json.dumps(footprint.document())))
    assert again == footprint
    assert again.metrics == footprint.metrics
    assert {event.kind for event in again.events} == set("+-><")


@pytest.mark.parametrize(
    "change",
    [
        {"trace": 3},
        {"checkpoints": ["nonsense"]},
        {"checkpoints": None},
        {"steps": []},
        {"step_times": {"a": "b"}},
        {"surprise": 1},
    ],
)
def test_a_damaged_footprint_is_refused(
    change: dict[str, Any], unmodified: Callable[[str], Footprint]
) -> None:
    with pytest.raises(ConfigError, match="not the footprint of a case"):
        Footprint.from_document({**unmodified("paged/swap").document(), **change})


def test_a_checkpoint_is_one_line() -> None:
    text = "200 6250000 1 2 3 4 5 6 7 8 0123abcd 89abcdef 210+57@2048!60-3 211<60@16"
    checkpoint = Checkpoint.from_text(text)
    assert checkpoint.text() == text
    assert [(event.iteration, event.kind, event.request, event.slot) for event in checkpoint.events] == [
        (210, "+", 57, 2048),
        (210, "!", 60, None),
        (210, "-", 3, None),
        (211, "<", 60, 16),
    ]


def test_what_only_one_side_has_is_not_judged(unmodified: Callable[[str], Footprint]) -> None:
    one, other = unmodified("paged/swap"), unmodified("paged/recompute")
    judged = judge_cases({"a": one, "b": one, "c": one}, {"a": one, "b": other, "d": one})
    assert [(item.name, item.outcome) for item in judged] == [
        ("a", Outcome.PASSED),
        ("b", Outcome.NOT_JUDGED),
        ("d", Outcome.NOT_JUDGED),
        ("c", Outcome.NOT_JUDGED),
    ]
    assert "not the same case as in the baseline: preemption swap -> recompute" in judged[1].message
    assert "not in the baseline" in judged[2].message
    assert "no longer in the matrix" in judged[3].message
    assert judge_cases({"c": one}, {}, left_out=frozenset({"c"})) == []


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(CASES)
