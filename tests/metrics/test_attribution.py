"""The parts of latency: by hand, and of every system in virtual time, where nothing may be left over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pagedbench.backend import load_backend
from pagedbench.config import RunConfig
from pagedbench.metrics.attribution import (
    PARTS,
    REQUEST_COLUMNS,
    STEP_COLUMNS,
    attribute,
)
from pagedbench.metrics.step_split import split_steps
from pagedbench.plan import make_plan
from pagedbench.request import SamplingParams
from pagedbench.runs.columns import request_columns, step_columns
from pagedbench.scheduling.batch import BlockedBy
from pagedbench.workload.arrivals import FixedArrivals
from pagedbench.workload.dataset import load_dataset
from pagedbench.workload.selection import Traffic
from pagedbench.workload.trace import build_trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Table = dict[str, NDArray[np.float64]]


def table_of(names: tuple[str, ...], **columns: list[float]) -> Table:
    """Columns that are not given are 0."""
    length = len(next(iter(columns.values())))
    return {name: np.array(columns.get(name, [0.0] * length), dtype=float) for name in names}


def run_by_hand() -> tuple[Table, Table]:
    """Two requests. An iteration takes 1 s, 0.5 s a decode, and 0.1 s a prompt token."""
    requests = table_of(
        REQUEST_COLUMNS,
        arrival_s=[0.0, 1.0],
        admit_s=[0.0, 3.5],
        first_token_s=[2.0, 7.0],
        finish_s=[9.0, 10.5],
        prompt_len=[10, 20],
        output_len=[4, 3],
        n=[1, 1],
        tpot_ms=[7000 / 3, 1750],
    )
    steps = table_of(
        STEP_COLUMNS,
        t_s=[0.0, 2.0, 3.5, 7.0, 9.0],
        step_ms=[2000, 1500, 3500, 2000, 1500],
        running=[1, 1, 2, 2, 1],
        waiting=[0, 1, 0, 0, 0],
        prefill_tokens=[10, 0, 20, 0, 0],
        decode_tokens=[0, 1, 1, 2, 1],
        blocked_by=[0, BlockedBy.MEMORY, 0, 0, 0],
    )
    return requests, steps


def test_parts_by_hand() -> None:
    found = attribute(*run_by_hand())
    sums = {name: 2 * seconds for name, seconds in found.seconds.items() if abs(seconds) > 1e-9}
    assert sums == pytest.approx(
        {"queue_arriving": 1.0, "queue_memory": 1.5, "prefill": 5.5, "decode": 8.5, "interference": 2.0}
    )
    assert found.mean_latency == 9.25
    assert found.mean_ttft == 4.0
    assert found.mean_in_system == pytest.approx(18.5 / 10.5)
    assert found.fitted_share == pytest.approx(3.5 / 10.5)
    assert found.fit_error == pytest.approx(0, abs=1e-9)


def test_what_the_iterations_do_not_explain_is_said() -> None:
    requests, steps = run_by_hand()
    steps["running"][3] = 1  # somebody was forgotten
    found = attribute(requests, steps)
    assert found.littles_law_error > 0.1
    assert sum(found.seconds.values()) == pytest.approx(found.mean_latency)
    with pytest.raises(ValueError, match="no request completed"):
        attribute({**requests, "finish_s": np.array([np.nan, np.nan])}, steps)


SETUPS: dict[str, dict[str, Any]] = {
    "paged": {"rate": 8.0},
    "orca-oracle": {"rate": 3.0},
    "orca-pow2": {"rate": 3.0},
    "orca-max": {"rate": 1.5},
    "fastertransformer": {"rate": 0.5},
    "recomputed groups": {"n": 4, "preemption": "recompute"},
    "swapped groups": {"n": 4, "preemption": "swap"},
    "beams": {"beam_width": 4, "rate": 6.0},
    "beams of orca": {"beam_width": 2, "system": "orca-max", "rate": 1.0},
    "prompts first": {"prefill": "separate", "rate": 8.0},
    "few sequences": {"max_num_seqs": 8},
    "few tokens": {"max_num_batched_tokens": 200, "device": "sim:a100-80gb", "rate": 12.0},
}


def simulate(name: str) -> tuple[Table, Table]:
    """The tables of a run of 20 s."""
    options = {"system": name, "rate": 2.0} if " " not in name and name != "beams" else {"rate": 2.0}
    options |= SETUPS[name]
    if "n" in options:
        options["temperature"] = 1.0
    config = RunConfig(**{"model": "opt-13b", "device": "sim:a100-40gb", "duration": 20.0, **options})
    plan = make_plan(config)
    decoding = SamplingParams(0, config.n, config.beam_width, config.temperature)
    trace = build_trace(
        load_dataset("sharegpt"), Traffic(rate=config.rate), duration=20.0, decoding=decoding
    )
    record = load_backend(plan).make_engine(plan).run(FixedArrivals(trace.requests))
    tables = request_columns(record), {**step_columns(record), "blocked_by": record.steps["blocked_by"]}
    requests, steps = (
        {key: np.asarray(table[key], dtype=float) for key in names}
        for table, names in zip(tables, (REQUEST_COLUMNS, STEP_COLUMNS), strict=True)
    )
    return requests, steps


EXPECTED = {
    "paged": "queue_memory",
    "orca-oracle": "queue_fragmentation",
    "orca-pow2": "queue_fragmentation",
    "orca-max": "queue_fragmentation",
    "fastertransformer": "queue_policy",
    "recomputed groups": "preempted",
    "swapped groups": "swapped",
    "beams": "swapped",
    "beams of orca": "copies",
    "prompts first": "queue_memory",
    "few sequences": "queue_sequences",
    "few tokens": "queue_tokens",
}


@pytest.mark.parametrize("name", SETUPS)
def test_nothing_is_left_over_in_virtual_time(name: str) -> None:
    requests, steps = simulate(name)
    found = attribute(requests, steps)
    e2el = np.nanmean(requests["finish_s"] - requests["arrival_s"])
    assert found.mean_latency == pytest.approx(e2el, rel=1e-12)
    assert abs(found.seconds["unaccounted"]) < 1e-7 * e2el
    assert abs(found.seconds["queue_nothing"]) < 1e-9
    assert found.littles_law_error < 1e-7
    assert min(found.seconds[part.name] for part in PARTS) > -1e-7 * e2el
    assert found.seconds[EXPECTED[name]] > 0
    if name == "fastertransformer":
        assert found.seconds["batch_end"] > 0


def test_iterations_of_one_kind_of_work_need_no_fit() -> None:
    steps = table_of(
        STEP_COLUMNS,
        t_s=[0, 1, 3],
        step_ms=[1000, 2000, 1700],
        prefill_tokens=[9, 0, 0],
        decode_tokens=[0, 3, 3],
    )
    split = split_steps(steps)
    assert split.prefill.tolist() == [1.0, 0.0, 0.0]
    assert split.decode.tolist() == [0.0, 2.0, 1.7]
    assert (split.fitted_share, split.fit_error) == (0.0, None)


def test_the_fit_finds_what_swaps_and_copies_cost() -> None:
    draws = np.random.default_rng(0)
    counts = {
        "prefill_tokens": draws.integers(0, 500, 300) * draws.integers(0, 2, 300),
        "decode_tokens": draws.integers(1, 60, 300),
        "kv_token_states": draws.integers(600, 9000, 300),
        "blocks_swapped_in": draws.integers(0, 40, 300) * draws.integers(0, 2, 300),
        "cow_copies": draws.integers(0, 9, 300),
    }
    context = counts["kv_token_states"] - counts["prefill_tokens"]
    decode = 20 + 0.1 * counts["decode_tokens"] + 1e-3 * context
    prefill, swap, copy = (
        0.1 * counts["prefill_tokens"],
        0.5 * counts["blocks_swapped_in"],
        0.2 * counts["cow_copies"],
    )
    steps = table_of(STEP_COLUMNS, step_ms=(decode + prefill + swap + copy).tolist(), **counts)
    split = split_steps(steps)
    for found, true in (
        (split.decode, decode),
        (split.prefill, prefill),
        (split.swap, swap),
        (split.copy, copy),
    ):
        assert 1000 * found == pytest.approx(true, abs=1e-6)
    assert split.fit_error == pytest.approx(0, abs=1e-9)


def test_no_kind_of_work_takes_less_than_no_time() -> None:
    """A fit of noise might say so, and the rest would then be too much."""
    draws = np.random.default_rng(5)
    steps = table_of(
        STEP_COLUMNS,
        step_ms=draws.uniform(1, 9, 40).tolist(),
        prefill_tokens=draws.integers(0, 30, 40).tolist(),
        decode_tokens=draws.integers(0, 30, 40).tolist(),
        cow_copies=draws.integers(0, 30, 40).tolist(),
    )
    split = split_steps(steps)
    parts = np.stack([split.decode, split.prefill, split.swap, split.copy])
    assert parts.min() >= 0
    assert 1000 * parts.sum(axis=0) == pytest.approx(steps["step_ms"])
