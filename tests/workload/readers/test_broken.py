"""Broken files of every format: an accepted trace, or one clear sentence; never another exception."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedbench.workload.formats import parse
from pagedbench.workload.rows import TraceError

from .reading import LetterTokenizer, lines

if TYPE_CHECKING:
    from pagedbench.workload.rows import Reading

CALL = {"t": 1.5, "type": "n", "in": 100, "out": 5, "hash_ids": [1, 2], "api_time": 2.0, "think_time": 0.5}
AGENT = {
    "t": 9.0,
    "type": "subagent",
    "duration_ms": 5000,
    "requests": [CALL | {"t": 0.0}],
    "tool_tokens": 64,
}
BLOCKS = {"timestamp": 5, "input_length": 600, "output_length": 7, "hash_ids": [3, 4], "block_size": 512}
CHAT = {"chat_id": 1, "parent_chat_id": -1, "timestamp": 1.5, "input_length": 40, "output_length": 7,
        "type": "text", "turn": 1, "hash_ids": [1, 2, 3]}  # fmt: skip
AIBRIX = {"timestamp": 5, "requests": [{"prompt": "a", "prompt_length": 5, "output_length": 6}]}
SERVINGSIM = {"input_toks": 2, "output_toks": 1, "arrival_time_ns": 9, "input_tok_ids": [1, 2],
              "output_tok_ids": [3]}  # fmt: skip
OWN = {"prompt_len": 100, "output_len": 4, "arrival_s": 0.5, "session": "a", "block_ids": [0, 1],
       "token_ids": [1, 2], "turn": {"index": 0, "waits_for": [], "think_s": 1.0}}  # fmt: skip
OWN_HEADER = {"format": "pagedbench trace", "version": 1, "block_size": 64}
SESSION = {
    "id": "s",
    "block_size": 64,
    "tool_tokens": 64,
    "system_tokens": 9,
    "requests": [CALL, AGENT, CALL],
}
TOKENS = {"requests": [{"prompt": [1, 2], "out": 3}]}

JSON_FILES = {
    "blocks": (BLOCKS, BLOCKS),
    "bailian": (CHAT, CHAT | {"chat_id": 2, "parent_chat_id": 1}),
    "aibrix": (AIBRIX, AIBRIX),
    "servingsim": (SERVINGSIM, SERVINGSIM),
    "own": (OWN_HEADER, OWN, OWN),
    "weka": (SESSION,),
    "tokens": (TOKENS,),
}
FILES = {name: lines(*records) for name, records in JSON_FILES.items()} | {
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,m,4,5,9,x\n",
    "weka-indented": json.dumps(SESSION, indent=1),
}


def read(data: bytes) -> Reading | None:
    """The reading; None where the file was refused."""
    try:
        reading = parse(io.BufferedReader(io.BytesIO(data)), "trace", LetterTokenizer)
    except TraceError as error:
        sentence = str(error)
    else:
        return checked(reading)
    assert "\n" not in sentence
    assert len(sentence) < 700
    return None


def checked(reading: Reading) -> Reading:
    """A reading that was accepted, and holds what every trace must."""
    assert reading.rows
    for row in reading.rows:
        assert row.prompt_len >= 0
        assert row.output_len >= 0
        assert row.blocks is None or len(row.blocks.ids) <= -(-row.prompt_len // row.blocks.size)
    times = [row.arrival_time for row in reading.rows if row.arrival_time is not None]
    assert times == sorted(times)
    assert len(times) in (0, len(reading.rows))
    return reading


@pytest.mark.parametrize("name", FILES)
def test_the_whole_files_are_accepted(name):
    assert read(FILES[name].encode()) is not None
    assert read(gzip.compress(FILES[name].encode())) is not None
    assert read(FILES[name].rstrip("\n").encode()) is not None
    assert read(FILES[name].replace("\n", "\r\n").encode()) is not None


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_ends_early(name):
    data = FILES[name].encode()
    for stop in range(len(data)):
        read(data[:stop])
    packed = gzip.compress(data, mtime=0)
    for stop in range(len(packed)):
        assert read(packed[:stop]) is None


@given(st.sampled_from(sorted(FILES)), st.data())
def test_changed_bytes(name, data):
    content = bytearray(FILES[name].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content) - 1))
        stop = data.draw(st.integers(start, min(start + 9, len(content))))
        piece = data.draw(
            st.binary(max_size=6) | st.sampled_from([b"1e999", b"-", b"null", b"[", b"{", b"\n", b'"'])
        )
        content[start:stop] = piece
    read(bytes(content))


@given(st.binary(max_size=60), st.sampled_from(sorted(FILES)))
def test_random_bytes_after_a_good_beginning(tail, name):
    read(FILES[name].encode() + tail)
    read(FILES[name].partition("\n")[0].encode() + b"\n" + tail)
    read(b"{" + tail)
    read(b'{"hash_ids": ' + tail)


STRANGE = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -1,
        1.5,
        2**31,
        2**63,
        10**400,
        1e308,
        float("nan"),
        float("inf"),
        -float("inf"),
        "",
        "x",
        "1",
        [],
        [None],
        [[]],
        [1, "a"],
        [2**70],
        {},
        {"t": 1},
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def replaced(value, draw):
    """A copy of a JSON value in which one field has another value, or is missing."""
    if isinstance(value, list) and value:
        place = draw(st.integers(0, len(value) - 1))
        return [replaced(item, draw) if i == place else item for i, item in enumerate(value)]
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        name = draw(st.sampled_from(sorted(value)))
        if draw(st.booleans()):
            return value | {name: replaced(value[name], draw)}
        return {key: item for key, item in value.items() if key != name}
    return draw(STRANGE | JSON)


@given(st.sampled_from(sorted(JSON_FILES)), st.data())
def test_strange_fields(name, data):
    records = replaced(list(JSON_FILES[name]), data.draw)
    read("".join(json.dumps(record) + "\n" for record in records).encode())
    read(json.dumps(records[0], indent=1).encode())


DEEP = 100_000


@pytest.mark.parametrize(
    "text",
    [
        '{"hash_ids": ' + "[" * DEEP,
        '{"hash_ids": ' + "[" * DEEP + "]" * DEEP + ', "input_length": 1}\n',
        lines(BLOCKS) + '{"a": ' * DEEP,
        lines(BLOCKS) + '{"a":' * DEEP + "1" + "}" * DEEP + "\n",
        '{"requests": [' + '{"t": 0, "type": "subagent", "requests": [' * DEEP,
        '{"requests": [{"t": 0, "type": "n", "in": ' + "9" * 5000 + "}]}",
        lines(BLOCKS) + '{"hash_ids": [' + "9" * 5000 + "]}\n",
        lines(BLOCKS) + "[1, 2]\n",
        lines(BLOCKS) + "5\n",
        lines(BLOCKS) + lines(AIBRIX),
        lines(OWN_HEADER) + lines(BLOCKS),
        lines(BLOCKS) + "prompt_len,output_len\n",
        '{"a": 1}{"b": 2}\n',
        '{"a": 1} x\n',
        '{"requests": [{"t": 0, "type": "n"}]}\n{}\n',
        "{" + ",".join(f'"{i}": {i}' for i in range(20_000)) + ', "requests": []}',
        '{\n"' + '": 1,\n"'.join(str(i) for i in range(20_000)) + '": 1}',
        json.dumps({"\ud800": 1, "\n\u2028": 2}) + "\n",
        '{"hash_ids": [1], "input_length": 1, "output_length": 1, "timestamp": 1e999}\n',
        '{"hash_ids": [1], "input_length": 1, "output_length": 1, "timestamp": -Infinity}\n',
        "TIMESTAMP,ContextTokens,GeneratedTokens\n\x00,1,1\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n\uff12023-11-16 18:15:46,1,1\n",
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 24:15:46,1,1\n",
        'Timestamp,Request tokens,Response tokens\n"1\n1",1,1\n',
        "Timestamp,Request tokens,Response tokens\n-0,1,1\n1e400,1,1\n",
    ],
)
def test_broken_files_are_refused(text):
    assert read(text.encode("utf-8", "surrogatepass")) is None
