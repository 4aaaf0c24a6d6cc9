"""Layers with windows in the cost models, and in the plan of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagedbench.backend import load_backend
from pagedbench.config import RunConfig
from pagedbench.memory.layer_group import LayerGroup
from pagedbench.memory.moves import Copy, Pool
from pagedbench.plan import Plan, make_plan
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, SequenceGroup
from pagedbench.scheduling.batch import Batch, Prefill
from pagedbench.show.header import _pool
from pagedbench.simulation import config_shapes, step_times
from pagedbench.simulation.batch_costs import num_pairs, num_seen
from pagedbench.simulation.cards import CARDS
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.workload.arrivals import FixedArrivals

LOCAL = tuple(layer for layer in range(40) if layer % 5)
WINDOWED = replace(
    BUILT_IN_SHAPES["opt-13b"],
    name="windowed",
    layer_groups=(LayerGroup(LOCAL, 256), LayerGroup(tuple(range(0, 40, 5)))),
)


def group_of(length: int) -> SequenceGroup:
    return SequenceGroup(Request(0, 0.0, Prompt(length), SamplingParams(8)), 0)


def decodes(*lens: int, padded_len: int | None = None) -> Batch:
    sequences = [group_of(length).sequences[0] for length in lens]
    context = sum(lens) if padded_len is None else padded_len * len(lens)
    return Batch(0, (), sequences, context, len(lens), 0, 1, padded_len=padded_len)


def test_a_query_sees_its_window() -> None:
    assert num_seen(decodes(5, 20, 30), 20) == 5 + 20 + 20
    assert num_seen(decodes(5, 20, padded_len=30), 12) == 24
    assert num_seen(decodes(5, 20, padded_len=30), 40) == 60
    sequence = group_of(50).sequences[0]
    for start, stop in ((0, 7), (0, 10), (0, 50), (6, 30), (10, 11), (33, 50)):
        part = Prefill(sequence, start, stop, ())
        assert num_pairs(part, most=10) == sum(min(i + 1, 10) for i in range(start, stop))
        assert num_pairs(part) == sum(i + 1 for i in range(start, stop))


@pytest.mark.parametrize("cost_model", ["modern", "roofline"])
def test_windows_take_the_time_of_what_they_see(cost_model: str) -> None:
    """Short contexts cost the same; of long ones four fifths of the layers read the window."""
    card = CARDS["a100-80gb"]
    whole, windowed = (
        step_times.step_times_of(cost_model, replace(WINDOWED, layer_groups=kinds), card, 1, "paged")
        for kinds in (BUILT_IN_SHAPES["opt-13b"].layer_groups, WINDOWED.layer_groups)
    )
    short, long, none = decodes(*[256] * 32), decodes(*[1792] * 32), decodes(*[1] * 32)
    assert windowed.step_time(short) == pytest.approx(whole.step_time(short))
    saved = whole.step_time(long) - windowed.step_time(long)
    assert saved == pytest.approx(0.8 * (whole.step_time(long) - whole.step_time(short)))
    prompt = [Prefill(group_of(4096).sequences[0], 0, 4096, ())]
    batch = replace(none, prefills=prompt, decodes=(), decode_context=0)
    assert windowed.step_time(batch) < whole.step_time(batch)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setitem(config_shapes.BUILT_IN_SHAPES, "windowed", WINDOWED)
    return make_plan(
        RunConfig(model="windowed", device="sim:a100-40gb", kv_slots=4096, prefix_caching=True)
    )


def test_the_plan_divides_the_same_bytes(plan: Plan) -> None:
    assert len(plan.layer_groups) == 5
    assert (plan.in_slots(plan.kv_slots), plan.slot_bytes) == (5 * 4096, plan.kv_bytes // 4096 // 5)
    assert _pool(plan).endswith(
        "256 blocks of 16, 4,096 tokens in all layers; 1,280 blocks, each for one of 5 groups of 8 layers; "
        "4 groups with a window of 256 tokens"
    )
    contiguous = make_plan(replace(plan.config, system="orca-max", prefix_caching=False))
    assert (len(contiguous.layer_groups), contiguous.in_slots(4096)) == (1, 4096)
    assert plan.step_times is not None
    assert contiguous.step_times is not None
    move = [Copy(0, 0, 16, Pool.DEVICE, Pool.HOST)]
    one, whole = (
        own.step_times.step_time(replace(decodes(), swap_outs=move * 1000)) for own in (plan, contiguous)
    )
    assert one == pytest.approx(whole / 5, rel=1e-3)  # a slot holds a fifth of the layers


def test_more_requests_run_side_by_side(plan: Plan) -> None:
    requests = [Request(i, 0.0, Prompt(900, seed=i), SamplingParams(100)) for i in range(30)]
    running = {}
    for system in ("paged", "orca-oracle"):
        caching = system == "paged"
        own = make_plan(replace(plan.config, system=system, prefix_caching=caching))
        record = load_backend(own).make_engine(own).run(FixedArrivals(requests))
        running[system] = int(record.steps["running"].max())
        parts = ("token_states", "reserved", "internal", "external", "free")
        assert (sum(record.steps[f"kv_{part}"] for part in parts) == own.in_slots(4096)).all()
    assert running["orca-oracle"] == 4
    assert running["paged"] >= 8
