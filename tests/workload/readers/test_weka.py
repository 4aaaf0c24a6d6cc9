"""Sessions of agents: who waits for whom, and which blocks sessions share."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from pagedbench.workload.dataset import check_name, load_dataset
from pagedbench.workload.rows import TraceError, Turn
from pagedbench.workload.traffic_summary import portions_of, reuse_of, sessions_of

from .reading import read

if TYPE_CHECKING:
    from pathlib import Path


def call(t, ids, *, api=1.0, think=None, **fields):
    record = {
        "t": t,
        "type": "n",
        "model": "m",
        "in": 64 * len(ids),
        "out": 7,
        "hash_ids": ids,
        "stop": "end",
    }
    record |= {} if api is None else {"api_time": api}
    return record | ({} if think is None else {"think_time": think}) | fields


def agent(end, duration, requests, **fields):
    return {"t": end, "type": "subagent", "duration_ms": 1000 * duration, "requests": requests} | fields


def session(*requests, **fields):
    return {"id": "s", "block_size": 64, "hash_id_scope": "local", "requests": list(requests)} | fields


def turns(*requests, **fields):
    return [row.turn for row in read(json.dumps(session(*requests, **fields))).rows]


def test_a_session_without_sub_agents():
    document = session(
        call(0.0, [1, 2]), call(5.0, [1, 2, 3], think=3.5), call(9.0, [1, 2, 3, 4], **{"in": 250})
    )
    for text in (json.dumps(document), json.dumps(document, indent=2)):
        rows = read(text).rows
        assert [row.turn for row in rows] == [
            Turn(0),
            Turn(1, (0,), 3.5, 5.0, 1.0),
            Turn(2, (1,), 3.0, 4.0, 1.0),  # the pause is not recorded: until 9, from the reply at 6
        ]
        assert [row.arrival_time for row in rows] == [0.0, 5.0, 9.0]
        assert [(row.prompt_len, row.output_len, row.session) for row in rows][-1] == (250, 7, "s")
        assert [row.blocks.ids for row in rows] == [(0, 1), (0, 1, 2), (0, 1, 2, 3)]


def test_without_the_time_of_a_reply_only_the_gap_is_known():
    found = turns(
        call(0.0, [1], api=None), call(5.0, [1]), call(6.0, [1], api=None, ttft=0.5), call(9.0, [1])
    )
    assert found[1:] == [
        Turn(1, (0,), None, 5.0),
        Turn(2, (1,), 0.0, 1.0, 1.0),
        Turn(3, (2,), 2.5, 3.0, 0.5),
    ]


@pytest.mark.parametrize("first", [0.0, 12.0], ids=["relative", "absolute"])
def test_sub_agents_run_beside_their_parent(first):
    """The first begins at 12 and ends at 20, the second runs until 31, when the parent has gone on."""
    helper = agent(20.0, 8.0, [call(first, [8], think=0.0), call(first + 4.0, [8, 9], think=2.0)])
    other = agent(31.0, 19.0, [call(first, [8])])
    found = turns(
        call(0.0, [1]),
        call(10.0, [1, 2], api=2.0),
        helper,
        other,
        call(25.0, [1, 2, 3], think=13.0),
        call(40.0, [1]),
    )
    assert found == [
        Turn(0),
        Turn(1, (0,), 9.0, 10.0, 1.0),
        Turn(2, (1,), 0.0, 2.0, 2.0),  # the sub-agents start when the parent has its reply
        Turn(3, (1,), 0.0, 2.0, 2.0),
        Turn(4, (2,), 2.0, 4.0, 1.0),
        Turn(5, (1, 4), 8.0, 9.0, 1.0),  # what was recorded as thinking was the sub-agent's work
        Turn(6, (3, 5), 14.0, 15.0, 1.0),
    ]


def test_sub_agents_of_sub_agents():
    inner = agent(8.0, 3.0, [call(0.0, [9])])
    found = turns(
        call(0.0, [1]), agent(10.0, 8.0, [call(0.0, [5]), inner, call(7.0, [5, 6])]), call(11.0, [1])
    )
    assert [turn.waits_for for turn in found] == [(), (0,), (1,), (1,), (0, 3)]
    deep = agent(1.0, 1.0, [call(0.0, [1])])
    for _ in range(9):
        deep = agent(1.0, 1.0, [deep | {"t": 0.5}])
    with pytest.raises(TraceError, match="more than 8 levels of sub-agents"):
        turns(deep)


def test_tools_and_system_prompts_are_shared_across_sessions(tmp_path: Path):
    """Two blocks of tools, then three of a system prompt, of which the first is cut by the tools."""
    lengths = {"tool_tokens": 130, "system_tokens": 190}
    for name, fields in {
        "a": lengths,
        "b": lengths,
        "c": lengths | {"system_tokens": 130},
        "d": {"tool_tokens": 131, "system_tokens": 189},
    }.items():
        warming = call(0.0, [50])  # too short to hold tools and system prompt
        document = session(warming, call(1.0, [1, 2, 3, 4, 5, 6]), call(2.0, [1, 2, 3, 4, 5, 6, 7]))
        (tmp_path / f"{name}.json").write_text(json.dumps(document | fields | {"id": name}))
    rows = load_dataset(tmp_path).rows
    a, b, c, d = ([row.blocks.ids for row in rows if row.session == name] for name in "abcd")
    assert a == [(0,), (1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6, 7)]
    assert b == [(8,), (1, 2, 3, 4, 5, 9), (1, 2, 3, 4, 5, 9, 10)]
    assert c[1][:2] == (1, 2)
    assert not set(c[1][2:]) & set(range(11))
    assert not set(d[1]) & set(range(11))
    assert {row.arrival_time for row in rows} == {None}


def test_a_sub_agent_has_its_own_tools(tmp_path: Path):
    for name in "ab":
        helper = agent(9.0, 5.0, [call(0.0, [7, 8, 9])], tool_tokens=64, system_tokens=64)
        document = session(call(0.0, [1, 2, 3]), helper, tool_tokens=128, system_tokens=0)
        with gzip.open(tmp_path / f"{name}.json.gz", "wt") as file:
            json.dump(document | {"id": name}, file)
    rows = load_dataset(tmp_path).rows
    assert [row.blocks.ids for row in rows] == [(0, 1, 2), (3, 4, 5), (0, 1, 6), (3, 4, 7)]


def test_folders_hold_sessions_and_nothing_else(tmp_path: Path):
    with pytest.raises(TraceError, match="is a folder without a Weka session"):
        check_name(str(tmp_path))
    (tmp_path / "notes.txt").write_text("not looked at")
    (tmp_path / "a.json").write_text(json.dumps(session(call(0.0, [1]))))
    check_name(str(tmp_path))
    assert len(load_dataset(tmp_path).rows) == 1
    (tmp_path / "b.json").write_text(json.dumps(session(call(0.0, [1]))))
    with pytest.raises(
        TraceError, match=r"b.json: id is 's', but another session of the trace has the same"
    ):
        load_dataset(tmp_path)
    for other in ('{"requests": [{"prompt": [1], "out": 1}]}', "prompt_len,output_len\n1,1\n", "[]"):
        (tmp_path / "b.json").write_text(other)
        with pytest.raises(TraceError, match=r"b.json is not a Weka session"):
            load_dataset(tmp_path)
    (tmp_path / "b.json").unlink()
    (tmp_path / "b.json").mkdir()
    with pytest.raises(TraceError, match="is a folder"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (session(call(0.0, [1]), 5), "trace request 2 is 5, but must be an object"),
        (session(call("0", [1])), "request 1: t is '0', but must be a number"),
        (session(call(0.0, [1], api=-1)), "api_time is -1, but must be 0 or more"),
        (session(call(0.0, [1], think="x")), "think_time is 'x'"),
        (
            session(call(0.0, [1, 2], **{"in": 64})),
            "in is 64, but its 2 hash_ids are more than the 1 blocks",
        ),
        (session(call(0.0, [1], out=None)), "out is None"),
        (session(call(0.0, [1]), agent(1.0, 1.0, {})), "requests is {}, but must be a list"),
        (session(call(0.0, [1]), agent(1.0, 1.0, [7])), "request 2, requests 1 is 7"),
        (session(call(0.0, [1]), agent(1.0, -1.0, [call(0.0, [1])])), "duration_ms is -1000.0"),
        (session(call(0.0, [1]), tool_tokens=-1), "tool_tokens is -1"),
        (session(call(0.0, [1]), block_size=0), "block_size is 0"),
        ({"requests": [call(0.0, [1])], "block_size": 16}, "block_size is 16, but it must stand before"),
        ({"requests": [call(0.0, [1])], "id": ["a"]}, r"id is \['a'\], but must be a text or a number"),
        (session(agent(1.0, 1.0, [])), "holds no requests"),
    ],
)
def test_malformed_sessions_are_named(document, message):
    with pytest.raises(TraceError, match=message) as caught:
        read(json.dumps(document))
    assert "\n" not in str(caught.value)


def test_two_lists_of_requests_are_one_too_many():
    with pytest.raises(TraceError, match='more than one list "requests"'):
        read('{"requests": [{"prompt": [1], "out": 1}], "requests": [{"prompt": [1], "out": 1}]}')


def test_real_sessions(test_data: Path):
    rows = load_dataset(test_data / "weka").rows
    sessions, reuse = sessions_of(rows), reuse_of(rows, portions_of(rows))
    assert reuse is not None
    assert reuse.own is not None
    assert sessions is not None
    assert (len(rows), sessions.number, reuse.own.num_blocks) == (3_403, 80, 5_018_098)
    assert 100 * reuse.own.block_share == pytest.approx(94.6, abs=0.05)
    assert reuse.everywhere.seen_blocks > reuse.own.seen_blocks  # tools and system prompts
    for name in {row.session for row in rows}:
        own = [row.turn for row in rows if row.session == name]
        assert [turn.index for turn in own] == list(range(len(own)))
        assert all(wait < turn.index for turn in own for wait in turn.waits_for)
        assert all(turn.waits_for for turn in own[1:])
        assert min(min(turn.gap, turn.api_time, turn.think_time or 0.0) for turn in own) >= 0
