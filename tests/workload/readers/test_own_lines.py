"""Our own JSONL keeps everything: what was written reads back equal."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedbench.workload.formats import read_file
from pagedbench.workload.readers.own_lines import write_own
from pagedbench.workload.rows import MAX_LENGTH, BlockIds, Row, TraceError, Turn

from .reading import NoTokenizer, lines, read

if TYPE_CHECKING:
    from pathlib import Path

HEADER = {"format": "pagedbench trace", "version": 1}

LENGTHS = st.integers(0, MAX_LENGTH)
SECONDS = st.floats(0, 1e9)
TURNS = st.builds(
    Turn,
    LENGTHS,
    st.lists(LENGTHS, max_size=3).map(tuple),
    st.none() | SECONDS,
    st.floats(-1e9, 1e9).filter(bool) | st.just(0.0),
    SECONDS,
)
WIDTHS = st.tuples(st.none() | st.integers(1, 9), st.none() | st.just(1)) | st.tuples(
    st.none(), st.integers(1, 9)
)


@st.composite
def rows_of_a_trace(draw):
    timed = draw(st.booleans())
    rows, known, time = [], dict[int, int](), 0.0
    for _ in range(draw(st.integers(1, 6))):
        time = max(time, draw(SECONDS))
        session = draw(st.none() | st.text(max_size=5))
        ids = draw(st.none() | st.lists(st.integers(0, 30), max_size=5))
        blocks = None
        if ids is not None:  # numbered in order of first appearance, as every reader gives them
            numbers = tuple(known.setdefault(key, len(known)) for key in ids)
            blocks = BlockIds(numbers, draw(st.sampled_from([1, 16, 512])))
        n, beam_width = draw(WIDTHS)
        least = 0 if blocks is None else int(blocks.size * len(blocks.ids))
        rows.append(
            Row(
                draw(st.integers(least, MAX_LENGTH)),
                draw(LENGTHS),
                draw(st.none() | st.lists(LENGTHS, max_size=4).map(tuple)),
                time if timed else None,
                session,
                n,
                beam_width,
                blocks,
                None if session is None else draw(st.none() | TURNS),
            )
        )
    return tuple(rows)


@given(rows_of_a_trace(), st.booleans())
def test_what_is_written_reads_back_equal(tmp_path_factory, rows, zipped):
    path = tmp_path_factory.getbasetemp() / ("own.jsonl.gz" if zipped else "own.jsonl")
    write_own(rows, path)
    assert read_file(path, NoTokenizer).rows == rows


def test_the_format(tmp_path: Path):
    rows = [
        Row(130, 9, None, 0.5, "a", blocks=BlockIds((0, 1, 2), 64), turn=Turn(0)),
        Row(20, 9, None, 1.0, "a", blocks=BlockIds((0,), 32), turn=Turn(1, (0,), 2.0, 3.0, 1.5)),
    ]
    write_own(rows, tmp_path / "a.jsonl")
    first, second, third = (tmp_path / "a.jsonl").read_text().splitlines()
    assert json.loads(first) == HEADER | {"block_size": 64}
    own = {"output_len": 9, "session": "a"}
    assert json.loads(second) == own | {
        **{"prompt_len": 130, "arrival_s": 0.5, "block_ids": [0, 1, 2], "turn": {"index": 0}}
    }
    assert json.loads(third) == own | {
        **{"prompt_len": 20, "arrival_s": 1.0, "block_ids": [0], "block_size": 32},
        "turn": {"index": 1, "waits_for": [0], "think_s": 2.0, "gap_s": 3.0, "api_s": 1.5},
    }
    write_own(rows, tmp_path / "a.jsonl.gz")
    packed = (tmp_path / "a.jsonl.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "a.jsonl").read_bytes()
    write_own(rows, tmp_path / "a.jsonl.gz")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == packed
    with pytest.raises(TraceError, match="there are no rows to write"):
        write_own([], tmp_path / "b.jsonl")


def test_turns_of_a_conversation_share_their_tokens():
    record = {"prompt_len": 1, "output_len": 1, "token_ids": [5, 6, 7], "session": "a"}
    first, second = read(lines(HEADER, record, record | {"prompt_len": 2})).rows
    assert first.token_ids is second.token_ids


ROW = {"prompt_len": 3, "output_len": 4}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"format": "x"}], "line 1: format is 'x', but must be \"pagedbench trace\""),
        ([HEADER | {"version": 2}], "version is 2, but this release reads version 1"),
        ([{"format": "pagedbench trace"}], "version is None"),
        ([HEADER], "has a header, but no requests"),
        ([HEADER | {"block_size": "16"}, ROW], "block_size is '16'"),
        ([HEADER, {"prompt_len": 3}], "line 2: output_len is None"),
        ([HEADER, ROW | {"tokens": 1}], "line 2 has the unknown field 'tokens': the fields are prompt_len"),
        ([HEADER, ROW | {"n": 2, "beam_width": 2}], "both n and beam_width"),
        ([HEADER, ROW | {"n": 0}], "n is 0, but must be a whole number from 1 to 4,096"),
        (
            [HEADER, ROW | {"arrival_s": 2}, ROW | {"arrival_s": 1}],
            "line 3: arrival_s is 1, but must be 2 or more",
        ),
        ([HEADER, ROW | {"arrival_s": 2}, ROW], "arrival_s is None, but all requests must have one"),
        ([HEADER, ROW, ROW | {"arrival_s": 2}], "arrival_s is 2, but all requests must have one"),
        ([HEADER, ROW | {"arrival_s": 2e9}], "arrival_s is 2000000000.0, but all requests must"),
        (
            [HEADER, ROW | {"block_ids": [1]}],
            "block_size is None, but must be given here or in the first line",
        ),
        ([HEADER, ROW | {"block_ids": [1, 2], "block_size": 3}], "2 block_ids are more than the 1 blocks"),
        ([HEADER, ROW | {"block_ids": [1.5], "block_size": 3}], "block_ids is"),
        ([HEADER, ROW | {"token_ids": 5}], "token_ids is 5, but must be a list"),
        ([HEADER, ROW | {"turn": {"index": 0}}], "session is None, but must be given, because of turn"),
        ([HEADER, ROW | {"session": "a", "turn": 5}], "turn is 5, but must be an object"),
        ([HEADER, ROW | {"session": "a", "turn": {}}], "turn: index is None"),
        ([HEADER, ROW | {"session": "a", "turn": {"index": 0, "waits_for": [-1]}}], "waits_for is"),
        (
            [HEADER, ROW | {"session": "a", "turn": {"index": 0, "pause": 1}}],
            "turn has the unknown field 'pause'",
        ),
        ([HEADER, ROW | {"session": []}], r"session is \[\]"),
    ],
)
def test_malformed_lines_are_named(records, message):
    with pytest.raises(TraceError, match=message) as caught:
        read(lines(*records))
    assert "\n" not in str(caught.value)
