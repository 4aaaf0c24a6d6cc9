"""The trace for Perfetto keeps to Chrome's format, and its tracks say what the tables say."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from pagedbench.runs.saved import load_run
from pagedbench.tools.view.perfetto import PARTS, perfetto_trace

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = {"M": {"name", "args"}, "X": {"name", "ts", "dur", "cat"}, "C": {"name", "ts", "args"},
          "i": {"name", "ts", "s"}}  # fmt: skip


def events_of(folder: Path) -> list[dict[str, Any]]:
    document = json.loads(perfetto_trace(load_run(folder)), parse_constant=pytest.fail)  # no NaN
    events: list[dict[str, Any]] = document["traceEvents"]
    return events


@pytest.mark.parametrize("kind", ["recomputing", "swapping", "contiguous"])
def test_every_event_has_what_its_kind_needs(kind: str, request: pytest.FixtureRequest) -> None:
    for event in events_of(request.getfixturevalue(kind)):
        assert NEEDED[event["ph"]] <= set(event)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event["ts"] >= 0
        assert event.get("dur", 0) >= 0
        if event["ph"] == "C":
            assert all(isinstance(value, int) for value in event["args"].values())


@pytest.mark.parametrize("kind", ["recomputing", "swapping"])
def test_a_request_is_in_one_state_at_a_time_from_arrival_to_end(
    kind: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    spans: dict[int, list[tuple[float, float, str]]] = defaultdict(list)
    for event in events_of(folder):
        if event["ph"] == "X":
            spans[event["tid"] - 1].append((event["ts"], event["ts"] + event["dur"], event["name"]))
    run = load_run(folder)
    assert len(spans) == len(run.requests)
    for row in run.requests.itertuples():
        own = sorted(spans[row.request_id])  # type: ignore[index]
        assert own[0][0] == pytest.approx(1e6 * row.arrival_s, abs=0.01)  # type: ignore[operator]
        assert own[-1][1] == pytest.approx(1e6 * row.finish_s, abs=0.01)  # type: ignore[operator]
        for (_, end, _), (start, _, _) in pairwise(own):
            assert start == pytest.approx(end, abs=0.01)
        assert sum(name == "preempted" for _, _, name in own) == row.preemptions


def test_counters_and_instants(recomputing: Path) -> None:
    run, events = load_run(recomputing), events_of(recomputing)
    names = [event["name"] for event in events if event["ph"] == "i"]
    assert run.preemptions is not None
    assert names.count("preemption") == len(run.preemptions)
    evicted = sum(event["args"]["blocks"] for event in events if event["name"] == "eviction")
    assert evicted > 0
    pools = [event["args"] for event in events if event["name"] == "KV pool"]
    capacity = int(run.steps[list(PARTS)].iloc[0].sum())
    assert {sum(parts.values()) for parts in pools} == {capacity}
