"""The tables that people read: the right figure in the right place, doubts before figures."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.console import Console

from pagedbench.metrics.blocking import has_filled
from pagedbench.request import SamplingParams, Status
from pagedbench.runs.machine_load import Load
from pagedbench.scheduling.batch import BlockedBy
from pagedbench.show.bar import PARTS
from pagedbench.show.comparison import (
    by_workload,
    is_best,
    print_comparison,
    remarks,
    same_workload,
)
from pagedbench.show.documents import document
from pagedbench.show.header import header_rows, trace_rows
from pagedbench.show.remarks import peak_use
from pagedbench.show.tables import latency_table, outcome_rows, print_result
from pagedbench.workload.dropped import Dropped
from runs.results import make_plain_result, simulated_result

if TYPE_CHECKING:
    from pagedbench.runs.result import Result

STARVED = Load(wall_s=159.0, cpu_s=5.0, cores=2, foreign_cores=1.9, cpu_share=0.03)


@pytest.fixture(scope="module")
def paged() -> Result:
    return simulated_result("paged")


@pytest.fixture(scope="module")
def orca_max() -> Result:
    return simulated_result("orca-max")


def with_values(result: Result, **values: float | bool | None) -> Result:
    changed = replace(result)
    vars(changed)["values"] = {**result.values, **values}  # where cached_property keeps it
    return changed


def compared(*results: Result) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_comparison(console, results)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shown(result: Result, *, colour: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=80, force_terminal=colour, color_system="standard" if colour else None
    )
    print_result(console, result, Path("out"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_latency_table_has_each_figure_once(paged: Result) -> None:
    table = latency_table(paged.values)
    cells = zip(*table.rows, strict=True)
    columns = {column.heading: list(own) for column, own in zip(table.columns, cells, strict=True)}
    assert columns["unit"] == ["ms", "ms", "ms", "s", "s/token", "ms"]
    assert columns["mean"][0] == paged.values["ttft_mean_ms"]
    assert columns["p90"][2:4] == ["", ""]  # itl and e2el have no p90
    assert columns["p95"] == [paged.values["ttft_p95_ms"], *[""] * 5]
    assert columns["max"][:2] == ["", ""]
    assert columns["max"][2] != ""


def test_long_latencies_are_in_seconds_and_minutes(paged: Result) -> None:
    values = {**paged.values, "ttft_mean_ms": 1000.0, "ttft_p99_ms": 2_491_907.0, "e2el_p99_s": 12_000.0}
    rows = {row[0]: row[1:] for row in latency_table(values).rows}
    assert rows["time to first token"][:2] == ["s", 1.0]
    assert rows["time to first token"][5] == pytest.approx(2491.907)
    assert rows["end-to-end latency"][0] == "min"
    assert rows["end-to-end latency"][5] == pytest.approx(200.0)


@pytest.mark.parametrize(("completed", "is_dim"), [(367, True), (368, False)])
def test_p99_of_few_requests_is_dimmed(paged: Result, completed: int, is_dim: bool) -> None:
    table = latency_table({**paged.values, "completed": completed})
    (column,) = [column for column in table.columns if column.heading == "p99"]
    assert column.is_dim == is_dim


def test_overload_is_said_first(paged: Result) -> None:
    assert "Overloaded" not in shown(paged)
    text = shown(with_values(paged, overloaded=True))
    assert text.split()[0] == "Overloaded:"


def test_interruption_is_said(paged: Result) -> None:
    assert f"Interrupted: {len(paged.record.requests)} of" in shown(
        replace(paged, record=replace(paged.record, interrupted=True))
    )


def test_doubts_are_listed_with_their_reasons(paged: Result) -> None:
    rows = dict(outcome_rows(paged.values, ("a clock stood still", "a block was lost"), None))
    assert rows["Valid"] == "no: a clock stood still; a block was lost"
    assert dict(outcome_rows(paged.values, paged.record.invalid_because, None))["Valid"] == "yes"


def test_the_whole_run_and_its_steady_part_are_two_rows(paged: Result) -> None:
    values = {**paged.values, "steady_request_throughput": 1.75, "steady_output_throughput": 580.0}
    rows = dict(outcome_rows(values, (), None))
    assert rows["Throughput"].endswith(": the whole run, with drain")
    assert rows["Steady"].startswith("1.75 requests/s, 580 output tokens/s: the second half")
    rows = dict(outcome_rows(paged.values, (), "all requests arrived at once"))
    assert rows["Steady"] == "no steady part: all requests arrived at once"


def test_means_are_named(paged: Result, orca_max: Result) -> None:
    values = {
        **paged.values,
        "running_mean": 6.7264,
        "running_max": 23,
        "waiting_max": 0,
        "num_steps": 1247,
    }
    rows = dict(outcome_rows(values, (), None))
    assert rows["Batch"] == "mean batch size 6.73 (max 23) over 1,247 iterations; peak queue length 0"
    assert rows["Preemptions"] == "0 recompute, 0 swap"
    text = " ".join(compared(paged, orca_max).split())
    assert "batch size: mean over iterations; % of KV: mean over time" in text


def test_goodput_is_shown_where_it_was_asked_for(paged: Result) -> None:
    assert "Goodput" not in dict(outcome_rows(paged.values, (), None))
    values = {**paged.values, "goodput": 1.25, "slo_attainment": 0.755}
    assert (
        dict(outcome_rows(values, (), None))["Goodput"] == "1.25 requests/s, 75.5% of requests meet the SLO"
    )


def test_a_pool_fills_when_somebody_is_held_back(paged: Result, orca_max: Result) -> None:
    assert not has_filled(paged.record)
    assert has_filled(orca_max.record)  # the head of the queue was refused
    assert 0 < peak_use(paged.record) < peak_use(orca_max.record) <= 100
    assert "never filled" in shown(paged)
    assert "never filled" not in shown(orca_max)


def test_a_request_that_never_fits_makes_memory_the_bottleneck(paged: Result) -> None:
    first, *others = paged.record.requests
    record = replace(paged.record, requests=(replace(first, status=Status.FAILED), *others))
    assert has_filled(record)
    assert "never filled" not in shown(replace(paged, record=record))


def test_a_pool_that_held_nothing_has_no_shares(paged: Result) -> None:
    text = shown(with_values(paged, **dict.fromkeys(part.column for part in PARTS)))
    assert "0.0%" not in text


def test_header_says_what_is_not_real() -> None:
    result = make_plain_result()
    rows = dict(header_rows([result.plan], [result.trace]))
    assert rows["Lengths"] == "synthesized (written by hand)"
    assert rows["Dropped"] == (
        "7 of 70 requests, 10 %: 4 longer than --max-model-len 2048, 3 a length below 1; "
        "the mean prompt falls from 300 to 200"
    )
    assert "none (simulated)" in rows["Model"]
    assert "A100-40GB" in rows["Cost model"]


def test_best_is_marked_by_the_direction_of_its_metric(paged: Result, orca_max: Result) -> None:
    low = with_values(paged, request_throughput=1.0, ttft_p50_ms=10.0)
    high = with_values(orca_max, request_throughput=2.0, ttft_p50_ms=20.0)
    assert [is_best(run, "request_throughput", [low, high]) for run in (low, high)] == [False, True]
    assert [is_best(run, "ttft_p50_ms", [low, high]) for run in (low, high)] == [True, False]
    tie = with_values(orca_max, request_throughput=1.0)
    assert not is_best(low, "request_throughput", [low, tie])
    nothing = with_values(orca_max, ttft_p50_ms=None)
    assert not is_best(nothing, "ttft_p50_ms", [low, high, nothing])


def test_only_runs_of_one_workload_are_compared(paged: Result, orca_max: Result) -> None:
    other = simulated_result("paged", seed=1)
    runs = [paged, other, orca_max]
    assert same_workload(paged, runs) == [paged, orca_max]
    assert by_workload(runs) == [paged, orca_max, other]
    pages = simulated_result("vattention")  # has a size of pages, which the others do not
    assert same_workload(paged, [paged, pages]) == [paged, pages]


def test_ratios_are_explained_where_there_are_any(paged: Result, orca_max: Result) -> None:
    assert "x: ratio to paged" in compared(paged, orca_max)
    assert "x: ratio" not in compared(paged, simulated_result("paged", seed=1))


def test_goodput_is_compared_where_it_was_asked_for(paged: Result, orca_max: Result) -> None:
    assert "goodput" not in compared(paged, orca_max)
    plan = replace(paged.plan, config=replace(paged.plan.config, slo="ttft:1s"))
    asked = with_values(replace(paged, plan=plan), goodput=1.25)
    text = compared(asked, with_values(orca_max, goodput=0.5))
    assert "1.25* 1.00x" in text
    assert "0.500  0.400x" in text
    assert "| goodput |" in document([asked], [Path("out")], "md")


def test_header_names_classes_of_ones_own(paged: Result) -> None:
    own = replace(paged.plan.system, name="Own", memory="own:Own", summary="memory: own:Own.")
    plan = replace(paged.plan, system=own)
    assert dict(header_rows([plan], [paged.trace]))["System"] == "Own: memory: own:Own."
    rows = dict(header_rows([paged.plan, plan], [paged.trace]))
    assert (rows["Systems"], rows["Own"]) == ("paged, Own", "Own: memory: own:Own.")


@pytest.mark.parametrize(
    ("dropped", "sentence"),
    [
        (
            Dropped(19_366, 0, 2841, 2048, 1154.697, 753.516),
            "2,841 of 19,366 requests, 14.7 %: longer than --max-model-len 2048; "
            "the mean prompt falls from 1,155 to 754",
        ),
        (
            Dropped(9000, 1, 0, 2048, 100.1, 100.2),
            "1 of 9,000 requests, 0.0111 %: a length below 1; the mean prompt stays at 100",
        ),
        (
            Dropped(2, 1, 0, 4096, 4.5, 9.0),
            "1 of 2 requests, 50 %: a length below 1; the mean prompt rises from 4.50 to 9.00",
        ),
    ],
)
def test_header_says_what_was_dropped_and_what_that_does(dropped: Dropped, sentence: str) -> None:
    trace = replace(make_plain_result().trace, dropped=dropped)
    assert dict(trace_rows(trace))["Dropped"] == sentence


def test_states(paged: Result) -> None:
    assert paged.state == "valid"
    assert with_values(paged, overloaded=True).state == "overloaded"
    assert with_values(paged, overloaded=True, valid=False).state == "invalid"
    assert replace(paged, record=replace(paged.record, interrupted=True)).state == "interrupted"


def test_no_figure_is_cut_on_a_narrow_terminal(paged: Result, orca_max: Result) -> None:
    console = Console(file=io.StringIO(), width=60)
    slow = with_values(orca_max, ttft_p99_ms=12_345_678.0)
    print_comparison(console, [paged, slow])
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "206" in text.split()  # minutes: 12,345,678 ms
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 60


def test_sharing_is_said_where_it_matters(paged: Result, orca_max: Result) -> None:
    assert "Sharing" not in shown(with_values(paged, kv_shared_saved_pct=0.5))
    assert "Prefix cache" not in shown(paged)
    text = shown(with_values(paged, kv_shared_saved_pct=30.6, prefix_hit_pct=42.9))
    assert "Sharing saved 31 % of the blocks." in text
    assert "Prefix cache: 43 % of prompt tokens were found." in text
    both = [with_values(paged, kv_shared_saved_pct=30.6), orca_max]
    assert remarks(both)[-1] == "paged: sharing saved 31 % of the blocks."


def test_a_busy_machine_is_said_first(paged: Result, orca_max: Result) -> None:
    starved = replace(paged, load=STARVED)
    overloaded = with_values(starved, overloaded=True)
    assert shown(overloaded).split().index("busy:") < shown(overloaded).split().index("Overloaded:")
    assert "yes, but not for gates: this machine was busy" in shown(starved)
    assert remarks([starved, orca_max])[0] == f"paged: {STARVED.sentence}"
    assert starved.state == "busy"
    assert with_values(starved, valid=False).state == "invalid"
    alone = replace(paged, load=replace(STARVED, cpu_share=0.99))
    assert "busy" not in shown(alone)
    assert (alone.is_usable, starved.is_usable) == (True, False)


def test_a_memory_bandwidth_that_varied_is_said(paged: Result, orca_max: Result) -> None:
    assert "Memory bandwidth" not in shown(replace(paged, bandwidths=(60e9, 57e9)))
    text = " ".join(shown(replace(paged, bandwidths=(34e9, 11e9))).split())
    sentence = (
        "Memory bandwidth varied during the run (11 to 34 GB/s): timings on this machine are unstable."
    )
    assert sentence in text
    both = [replace(paged, bandwidths=(34e9, 33e9)), replace(orca_max, bandwidths=(11e9, None))]
    assert remarks(both)[-1] == sentence


def test_header_says_how_replies_are_decoded() -> None:
    result = make_plain_result()

    def decoding(*samplings: SamplingParams) -> str | None:
        requests = [
            replace(request, sampling=sampling)
            for request, sampling in zip(result.trace.requests, samplings, strict=True)
        ]
        trace = replace(result.trace, requests=tuple(requests))
        return dict(header_rows([result.plan], [trace])).get("Decoding")

    nucleus = SamplingParams(5, n=4, temperature=0.8, top_p=0.95, top_k=40)
    assert decoding(*[SamplingParams(5)] * 3) is None  # greedy, as always
    assert decoding(*[nucleus] * 3) == "4 samples of each prompt, temperature 0.8, top-p 0.95, top-k 40"
    assert decoding(*[SamplingParams(5, beam_width=2)] * 3) == "beam search, 2 beams"
    assert decoding(nucleus, nucleus, SamplingParams(5)) == "as the trace says of each request"


def test_where_memory_held_nobody_back_the_limit_that_did_is_named(paged: Result) -> None:
    steps = paged.record.steps
    waiting = np.where(steps.start < 10, 3, 0)
    for reason, words in (
        (BlockedBy.TOKENS, "100 % of the time in the queue was for --max-num-batched-tokens"),
        (BlockedBy.SEQUENCES, "for --max-num-seqs"),
        (BlockedBy.POLICY, "for the closed batch"),
    ):
        columns = {**steps.columns, "waiting": waiting, "blocked_by": np.where(waiting, reason, 0)}
        record = replace(paged.record, steps=replace(steps, columns=columns))
        text = shown(replace(paged, record=record))
        assert words in text
        assert "expected to tie" not in text
    assert "expected to tie" in shown(paged)
