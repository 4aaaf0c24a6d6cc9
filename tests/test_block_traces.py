"""Traces that name blocks by ids: what a prefix cache finds is what the ids say, and no reply changes."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

import pytest

from models.folders import hugging_face_greedy
from pagedbench.memory.paged import Paged
from pagedbench.simulation.executor import Simulated
from pagedbench.workload.dataset import Dataset, load_dataset
from pagedbench.workload.selection import Traffic
from pagedbench.workload.synth_traffic import synthesize_traffic
from pagedbench.workload.trace import build_trace
from serving import BLOCK_SIZE, MAX_LEN, engine_of, loaded_model, outputs_of, serve

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pagedbench.workload.rows import Row
    from pagedbench.workload.trace import Trace

pytestmark = pytest.mark.usefixtures("one_thread")

load = cache(load_dataset)

BIG = 2**22
"""Tokens in a pool from which nothing is ever evicted; no prompt is longer."""


def expected_hits(rows: Iterable[Row], block_size: int, scale: float = 1.0) -> int:
    """A direct count: tokens of the longest beginning whose ids were seen, in full blocks of ours.

    The last token of a prompt is always computed.
    """
    seen: set[int] = set()
    hits = 0
    for row in rows:
        assert row.blocks is not None
        known = 0
        while known < len(row.blocks.ids) and row.blocks.ids[known] in seen:
            known += 1
        length = max(int(scale * row.prompt_len + 0.5), 1)
        covered = min(int(scale * row.blocks.size * known + 0.5), length - 1)
        hits += covered // block_size * block_size
        seen.update(row.blocks.ids)
    return hits


def hits_of(trace: Trace, block_size: int, kv_slots: int = BIG) -> int:
    memory = Paged(kv_slots, block_size, BIG, prefix_caching=True)
    record = engine_of("paged", memory, Simulated(), "auto").run(trace.arrivals())
    assert all(item.status.value == "completed" for item in record.requests)
    memory.check_integrity()
    assert memory.num_evicted == 0
    return int(record.steps["prefix_hits"].sum())


def in_order(rows: list[Row], scale: float = 1.0) -> Trace:
    dataset = Dataset("blocks", tuple(rows), "ids", synthetic=True)
    traffic = Traffic("trace") if rows[0].arrival_time is not None else Traffic(rate=math.inf)
    return build_trace(dataset, traffic, max_model_len=BIG, length_scale=scale)


@pytest.mark.parametrize("block_size", [16, 64, 256, 512])
def test_a_cache_without_bounds_finds_what_the_ids_say(block_size):
    rows = synthesize_traffic("prefix-tree", 150, seed=1)
    found = hits_of(in_order(rows), block_size)
    assert found == expected_hits(rows, block_size) > 0


@pytest.mark.parametrize("block_size", [7, 48, 100, 700])
def test_sizes_that_do_not_divide_find_no_more(block_size):
    rows = synthesize_traffic("prefix-tree", 60, seed=1)
    found = hits_of(in_order(rows), block_size)
    assert 0 < found <= expected_hits(rows, 1)


@pytest.mark.parametrize("scale", [0.5, 0.013, 0.4321])
def test_scaled_lengths_keep_what_is_shared(scale):
    rows = synthesize_traffic("prefix-tree", 30, seed=2)
    kv_slots = 2**18  # each a block, whose owners are counted
    assert hits_of(in_order(rows, scale), 4, kv_slots) <= expected_hits(rows, 4, scale)
    assert hits_of(in_order(rows, scale), 1, kv_slots) == expected_hits(rows, 1, scale) > 0


@pytest.mark.parametrize("name", ["conversation", "synthetic"])
@pytest.mark.parametrize("block_size", [32, 512])
def test_mooncake_is_found_as_counted(name: str, block_size: int, test_data: Path) -> None:
    rows = list(load(test_data / "mooncake" / f"{name}_trace.jsonl.gz").rows[:600])
    assert hits_of(in_order(rows), block_size, 2 * BIG) == expected_hits(rows, block_size) > 0


def test_sessions_of_agents_find_their_own_beginnings(test_data: Path) -> None:
    """94.6 % of all blocks are hits within their own sessions, by a count of the files' authors."""
    hits, total = 0, 0
    seen: dict[str | None, set[int]] = defaultdict(set)
    for row in load(test_data / "weka").rows:
        if row.prompt_len and row.output_len:
            assert row.blocks is not None
            hits += sum(block in seen[row.session] for block in row.blocks.ids)
            total += len(row.blocks.ids)
            seen[row.session].update(row.blocks.ids)
    assert hits / total == pytest.approx(0.946, abs=0.0005)


@pytest.mark.parametrize("folder", ["stories"], indirect=True)
@pytest.mark.parametrize("name", ["prefix-tree", "agentic", "mooncake", "weka"])
def test_real_execution_finds_as_much_and_changes_no_token(
    name: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    """A trace of long prompts, made short for a small model: lengths scaled, sharing as it was."""
    if name in ("mooncake", "weka"):
        data: Path = request.getfixturevalue("test_data")
        file = "mooncake/conversation_trace.jsonl.gz" if name == "mooncake" else "weka/trace_0014.json.gz"
        rows = list(load(data / file).rows)
        if name == "mooncake":  # the requests that share most among the first ones
            beginnings: dict[tuple[int, ...], list[Row]] = {}
            for row in rows[:3000]:
                assert row.blocks is not None
                beginnings.setdefault(row.blocks.ids[:3], []).append(row)
            rows = max(beginnings.values(), key=len)
    else:
        rows = synthesize_traffic(name, 60, seed=3)
    scale = 40 / max(row.prompt_len for row in rows[:12])
    rows = [row for row in rows[:12] if row.prompt_len and row.output_len]
    dataset = Dataset(name, tuple(rows), "ids", synthetic=False)
    trace = build_trace(dataset, Traffic(rate=math.inf), max_model_len=MAX_LEN, length_scale=scale)
    requests = list(trace.requests)
    memory = Paged(2048, BLOCK_SIZE, MAX_LEN, prefix_caching=True)
    record = serve(folder, requests, memory=memory, source=trace.arrivals())
    plain = serve(folder, requests, "paged", source=trace.arrivals())
    assert outputs_of(record) == outputs_of(plain)
    vocab_size = loaded_model(folder).shape.vocab_size
    prompts = [tuple(item.prompt.ids(vocab_size).tolist()) for item in requests]
    own = [item.reply_len for item in requests]
    replies = [list(outputs[0]) for outputs in outputs_of(record)]
    assert replies == hugging_face_greedy(folder, prompts, own)
    memory = Paged(2048, BLOCK_SIZE, MAX_LEN, prefix_caching=True)
    simulated = engine_of("paged", memory, Simulated(), "auto").run(trace.arrivals())
    assert simulated.steps["prefix_hits"].tolist() == record.steps["prefix_hits"].tolist()
    assert record.steps["prefix_hits"].sum() > 0
    assert plain.steps["prefix_hits"].sum() == 0


@pytest.mark.parametrize("name", ["agentic", "weka"])
@pytest.mark.parametrize("turn_times", ["think", "recorded", "api"])
def test_no_turn_of_an_agent_starts_before_what_it_waits_for(
    name: str, turn_times: str, request: pytest.FixtureRequest
) -> None:
    """Over all records of a run: sessions that arrive at random, their sub-agents beside them."""
    dataset = load(name if name == "agentic" else request.getfixturevalue("test_data") / name)
    traffic = Traffic(rate=0.05, turn_times=turn_times)
    trace = build_trace(
        dataset, traffic, num_requests=150, max_model_len=BIG, length_scale=0.01, seed=len(turn_times)
    )
    memory = Paged(2**16, 16, BIG, prefix_caching=True)
    record = engine_of("paged", memory, Simulated(), "auto").run(trace.arrivals())
    assert len(record.requests) == len(trace.requests)
    finish = {item.request.request_id: item.finish_time for item in record.requests}
    arrival = {item.request.request_id: item.request.arrival_time for item in record.requests}
    for request_id, wait in enumerate(trace.waits):
        if wait is None:
            assert arrival[request_id] == trace.requests[request_id].arrival_time
            continue
        for before in wait.requests:
            due = max(finish[before], arrival[before] + wait.spacing) + wait.pause
            assert arrival[request_id] >= due
    assert len({item.request.session_id for item in record.requests}) == trace.num_sessions
