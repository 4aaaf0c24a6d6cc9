"""Iterations that run in one go leave the same records as turns of the loop."""

from __future__ import annotations

import pytest

from pagedbench.fleet.replica import Inbox, Replica
from pagedbench.fleet.replica_view import Schedule
from pagedbench.runs import columns
from tools.plan.fleets import make_fleet, make_setup

MODELS = {
    "opt-13b": {"device": "sim:a100-40gb", "kv_slots": 6000},
    "opt-13b, 2023": {"device": "sim:a100-40gb", "cost_model": "vllm-2023", "kv_slots": 4000},
    "opt-13b, published": {"device": "sim:a100-80gb", "cost_model": "published"},
    "grouped": {"model": "llama-3.1-8b", "device": "sim:h100", "block_size": 64, "prefix_caching": True},
    "ttl": {"model": "llama-7b", "device": "sim:h100", "prefix_caching": True, "eviction": "ttl:2s"},
    "windows": {"model": "gemma-3-12b", "device": "sim:h100", "kv_memory": "16GiB"},
    "orca": {"system": "orca-pow2", "device": "sim:a100-40gb"},
    "fragmented": {"system": "orca-pow2", "device": "sim:a100-40gb", "kv_slots": 5000, "rate": 8.0},
    "batches": {"system": "fastertransformer", "device": "sim:a100-40gb"},
    "pages": {"system": "vattention", "device": "sim:a100-40gb"},
    "beams": {"beam_width": 4, "device": "sim:a100-40gb"},
    "queue": {"device": "sim:a100-40gb", "kv_slots": 3000, "rate": 8.0, "duration": 6.0},
    "four at a time": {"device": "sim:a100-40gb", "max_num_seqs": 4, "rate": 4.0},
    "samples": {"n": 3, "temperature": 1.0, "device": "sim:a100-40gb", "kv_slots": 6000},
    "parts": {"prefill": "chunked", "max_num_batched_tokens": 128, "device": "sim:a100-40gb", "rate": 4.0,
              "kv_slots": 4000},
    "evicted": {"prefix_caching": True, "device": "sim:a100-40gb", "kv_slots": 4096, "rate": 4.0,
                "trace": "alpaca", "shared_prefix_len": 200, "shared_prefix_groups": 12},
    "host": {"prefix_caching": True, "host_cache": "4GiB", "device": "sim:a100-40gb", "kv_slots": 6000},
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_records_are_the_same(name: str) -> None:
    options = {"rate": 2.0, "duration": 12.0, **MODELS[name]}
    setup = make_setup("least-outstanding", **options)
    alone, at_once = (
        setup.make_engine().run(setup.trace.arrivals(), repeats=repeats) for repeats in (False, True)
    )
    fleet = make_fleet(setup, 1)
    fleet.run(setup.trace.arrivals())
    for record in (at_once, fleet.replicas[0].engine.finish(fleet.replicas[0].inbox)):
        for content in (columns.request_columns, columns.step_columns, columns.preemption_columns):
            assert list(columns.csv_lines(content(record))) == list(columns.csv_lines(content(alone)))
        assert record.steps.end.tolist() == alone.steps.end.tolist()
        assert record.steps.decode_ends.tolist() == alone.steps.decode_ends.tolist()


@pytest.mark.parametrize("system", ["paged", "orca-max", "fastertransformer"])
def test_most_iterations_run_in_one_go(system: str) -> None:
    setup = make_setup(num_requests=1, duration=None, block_size=64, system=system)
    replica = Replica(0, setup.make_engine(), Schedule(0.0))
    assert isinstance(replica.inbox, Inbox)
    replica.send(setup.trace.requests[0])
    num_turns, time = 0, 0.0
    while not replica.is_idle:
        replica.step(time, 1e9)
        time, num_turns = replica.engine.clock.now, num_turns + 1
    assert num_turns < len(replica.engine.finish(replica.inbox).steps) / 10
