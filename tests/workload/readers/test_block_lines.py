"""Traces of block hashes: numbering, sizes, times, and the conversations of Bailian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedbench.workload.dataset import load_dataset
from pagedbench.workload.formats import read_file
from pagedbench.workload.readers import block_numbers
from pagedbench.workload.readers.block_numbers import BlockNumbers
from pagedbench.workload.rows import BlockIds, TraceError, Turn
from pagedbench.workload.traffic_summary import portions_of, reuse_of

from .reading import NoTokenizer, lines, read

if TYPE_CHECKING:
    from pathlib import Path


def request(ids, length=None, **fields):
    return {
        "input_length": 512 * len(ids) if length is None else length,
        "output_length": 3,
        "hash_ids": ids,
    } | fields


def test_mooncake():
    rows = read(lines(request([46, 5], timestamp=0), request([46, 9], 513, timestamp=3000))).rows
    assert [row.blocks for row in rows] == [BlockIds((0, 1), 512), BlockIds((0, 2), 512)]
    assert [(row.prompt_len, row.output_len, row.arrival_time) for row in rows] == [
        (1024, 3, 0.0),
        (513, 3, 3.0),
    ]


def test_a_rows_own_block_size_wins_over_that_of_the_reader():
    text = lines(request([1], 20), request([2], 30, block_size=32))
    assert [row.blocks.size for row in read(text, block_size=24).rows] == [24, 32]
    assert [row.blocks.size for row in read(text).rows] == [512, 32]
    assert read(text).rows[0].arrival_time is None


def test_the_block_size_reaches_the_reader(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(lines(request([1], 20)))
    assert load_dataset(tmp_path / "a.jsonl", block_size=24).rows[0].blocks == BlockIds((0,), 24)


def test_hashes_may_be_large_negative_or_text():
    text = lines(request([2**63, -5, 7]), request([2**63, -5, 8, 2**70]))
    assert [row.blocks.ids for row in read(text).rows] == [(0, 1, 2), (0, 1, 3, 4)]
    text = lines(request(["ab", "cd"]), request(["ab", "ef"]), request([]))
    assert [row.blocks.ids for row in read(text).rows] == [(0, 1), (0, 2), ()]


def test_equal_ids_are_one_object():
    first, second = (
        row.blocks.ids for row in read(lines(request([10**6, 10**12]), request([10**6, 10**12]))).rows
    )
    large = read(lines(*(request([i]) for i in range(999)), request([998]))).rows
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert large[-1].blocks.ids[0] is large[-2].blocks.ids[0]


@given(st.lists(st.lists(st.integers(-3, 2000) | st.integers(0, 9))))
def test_numbers_follow_the_first_appearance(prompts):
    numbers, known = BlockNumbers("trace"), dict[int, int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_numbers, "MAX_SMALL", 1000)  # a list of millions takes its time
        for ids in prompts:
            assert numbers.of(ids) == tuple(known.setdefault(key, len(known)) for key in ids)


def test_memory_for_ids_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(block_numbers, "MAX_LARGE", 2)
    with pytest.raises(TraceError, match="trace has more than 2 different large block ids"):
        read(lines(request([2**40, 2**41, 2**42])))
    with pytest.raises(TraceError, match="too many different block ids"):
        BlockNumbers("trace", most=2).of([1, 2, 3])


def test_rows_are_sorted_by_time_and_times_of_day_count_from_the_first():
    rows = read(lines(request([1], timestamp=1.7e12 + 2000), request([2], timestamp=1.7e12))).rows
    assert [(row.arrival_time, row.blocks.ids) for row in rows] == [(0.0, (1,)), (2.0, (0,))]


def bailian(chat, parent, time, ids, **fields):
    return {
        **{"chat_id": chat, "parent_chat_id": parent, "timestamp": time, "type": "text", "turn": 1},
        **request(ids, 16 * len(ids)),
        **fields,
    }


def test_bailian_chats_are_sessions():
    text = lines(
        bailian(7, -1, 0.5, [1, 2]),
        bailian(8, -1, 1.0, [3]),
        bailian(9, 7, 10.0, [1, 2, 4]),
        bailian(10, 9, 12.0, [1, 2, 4, 5]),
        bailian(11, 7, 13.0, [1, 2, 6]),  # another answer to the first turn
        bailian(12, 999, 14.0, [7]),  # the parent is not in the file
    )
    rows = read(text).rows
    assert [row.session for row in rows] == ["7", "8", "7", "7", "7", "12"]
    assert [row.turn for row in rows] == [
        Turn(0),
        Turn(0),
        Turn(1, (0,), None, 9.5),
        Turn(2, (1,), None, 2.0),
        Turn(3, (0,), None, 12.5),
        Turn(0),
    ]
    assert [row.arrival_time for row in rows] == [0.5, 1.0, 10.0, 12.0, 13.0, 14.0]
    assert rows[2].blocks == BlockIds((0, 1, 3), 16)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            [{"hash_ids": [1], "input_length": 5}],
            "line 1: output_length is None, but must be a whole number",
        ),
        (
            [request([1, 2], 512)],
            "line 1: input_length is 512, but its 2 hash_ids are more than the 1 blocks",
        ),
        ([request([1]), request([1.5])], "line 2: hash_ids is .*, but must be a list of whole numbers"),
        ([request([1, "a"], 2000)], "hash_ids is .* a list of whole numbers, or of texts"),
        ([request([True])], "hash_ids is"),
        ([request([1]) | {"hash_ids": {}}], "hash_ids is {}, but must be a list"),
        ([request([1], -1)], "input_length is -1, but must be a whole number from 0"),
        ([request([1], 2**31)], "input_length is 2147483648"),
        ([request([1], "5")], "input_length is '5'"),
        ([request([1], timestamp="now")], "timestamp is 'now', but must be a number"),
        ([request([1], timestamp=-1)], "timestamp is -1, but must be 0 or more"),
        ([request([1], timestamp=10**400)], "timestamp is 1000.*, but must be a number"),
        ([request([1], timestamp=float("nan"))], "timestamp is nan"),
        ([request([1], timestamp=True)], "timestamp is True"),
        ([request([1], timestamp=1), request([1])], "has times for 1 of its 2 requests"),
        ([request([1], block_size=0)], "block_size is 0, but must be a whole number from 1 to 1,000,000"),
        ([request([1], block_size=10**9)], "block_size is 1000000000"),
        ([bailian(None, 1, 0, [1])], "chat_id is None, but must be a text or a number"),
        ([bailian(1, [], 0, [1])], r"parent_chat_id is \[\], but must be a text"),
        ([bailian("a" * 2000, 1, 0, [1])], "of at most 1,000 characters"),
    ],
)
def test_malformed_lines_are_named(records, message):
    with pytest.raises(TraceError, match=message) as caught:
        read(lines(*records))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 320


@pytest.mark.parametrize(
    ("name", "number", "num_distinct", "hits", "ceiling"),
    [("conversation", 12_031, 182_790, 36.6, 39.8), ("synthetic", 3_993, 43_924, 64.0, 86.3)],
)
def test_mooncake_traces(test_data: Path, name, number, num_distinct, hits, ceiling):
    rows = read_file(test_data / "mooncake" / f"{name}_trace.jsonl.gz", NoTokenizer).rows
    reuse = reuse_of(rows, portions_of(rows))
    assert reuse is not None
    assert (len(rows), reuse.num_distinct, reuse.own) == (number, num_distinct, None)
    assert 100 * reuse.everywhere.block_share == pytest.approx(hits, abs=0.05)
    assert 100 * reuse.second_half.token_share == pytest.approx(ceiling, abs=0.05)
