"""Files are read piece by piece: the same rows whatever the pieces, and little memory whatever the file."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.workload import rows as rows_module
from pagedbench.workload.formats import parse, read_file
from pagedbench.workload.json_stream import MAX_RECORD_LEN, JsonStream
from pagedbench.workload.readers.token_ids import MAX_VOCABULARY
from pagedbench.workload.records import MAX_TEXT_SIZE
from pagedbench.workload.rows import Row, TraceError, collected
from pagedbench.workload.text_stream import MAX_LINE_LEN, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADER = b"prompt_len,output_len\n"


class NoTokenizer:
    def __init__(self) -> None:
        raise AssertionError("nothing is tokenized")


class LengthTokenizer:
    """One token a letter."""

    def encode(self, texts):
        assert sum(map(len, texts)) <= 200_000, "a tokenizer gets a few texts at a time"
        return [[7] * len(text) for text in texts]


def pieces_of(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text), size))


def read(data: bytes):
    return parse(io.BufferedReader(io.BytesIO(data)), "trace", LengthTokenizer)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=15,
)


@settings(deadline=None)
@given(st.lists(VALUES, max_size=5), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_json_is_read_the_same_in_any_pieces(values, size, indent, ascii_only):
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only) + "\n"
    stream = JsonStream(pieces_of(text, size), "trace")
    assert list(stream.elements()) == values
    stream.finish()
    record = json.dumps({"a": values, "requests": values}, indent=indent, ensure_ascii=ascii_only)
    stream = JsonStream(pieces_of(record, size), "trace")
    assert {name: list(stream.elements()) for name in stream.names()} == {"a": values, "requests": values}


@settings(deadline=None)
@given(st.text('[]{}:,"\\ \n1.e-truel\u00e9', max_size=30), st.integers(1, 40))
def test_malformed_json_is_malformed_in_any_pieces(text, size):
    def outcome(text: str, size: int) -> object:
        stream = JsonStream(pieces_of(text, size), "trace")
        try:
            values = list(stream.elements())
            stream.finish()
        except TraceError as error:
            return str(error)
        return values

    try:
        expected = json.loads("[" + text)
    except ValueError:
        assert isinstance(outcome("[" + text, size), str)
    else:
        assert outcome("[" + text, size) == expected


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_malformed_json_is_placed_in_the_file(size: int):
    text = '[{"a": 1},\n {"b": [2, 3]},\n  {"c" 4}]'
    stream = JsonStream(pieces_of(text, size), "trace")
    with pytest.raises(TraceError, match="Expecting ':' delimiter at line 3, column 8"):
        list(stream.elements())


@settings(deadline=None)
@given(st.text("a,\r\n\u2028", max_size=40), st.integers(1, 9))
def test_lines_are_the_same_in_any_pieces(text, size):
    assert list(lines_of(pieces_of(text, size))) == io.StringIO(text, newline="").readlines()


def test_letters_of_several_bytes_may_lie_on_two_pieces():
    text = "prompt_len,output_len,session\n" + "1,2,\u00e9\U0001f600\n" * 20_000
    assert {row.session for row in read(text.encode()).rows} == {"\u00e9\U0001f600"}
    broken = text.encode()[:-4]
    with pytest.raises(TraceError, match=f"byte {len(broken) - 1} cannot be read"):
        read(broken)


def bomb(path: Path, beginning: bytes, unit: bytes) -> None:
    """A gzip file of one GB, which takes a MB."""
    part = gzip.compress(unit * (10_000_000 // len(unit)), 1)
    path.write_bytes(gzip.compress(beginning) + part * 100)


@pytest.mark.parametrize(
    ("beginning", "unit", "message"),
    [
        (b"", b"\0", f"line 1 is longer than {MAX_LINE_LEN:,} characters"),
        (b"", b" ", f"begins with more than {MAX_LINE_LEN:,} blanks"),
        (b"", b"\n", f"begins with more than {MAX_LINE_LEN:,} blanks"),
        (HEADER, b"1", f"line 2 is longer than {MAX_LINE_LEN:,} characters"),
        (HEADER + b'"', b'\n","', "is longer than 1,000,000 characters"),
        (b"", b"[", "nests lists or objects too deeply to be read"),
        (b"", b'{"a":', "nests lists or objects too deeply to be read"),
        (b'["', b"a", f"line 1, column 2 is longer than {MAX_RECORD_LEN:,} characters"),
        (b'{"', b"a", f"line 1, column 2 is longer than {MAX_RECORD_LEN:,} characters"),
        (b'[{"conversations": []}, ', b"x", "not valid JSON: Expecting value at line 1, column 25"),
    ],
)
def test_a_gigabyte_is_refused_after_little_of_it(tmp_path: Path, beginning, unit, message):
    bomb(tmp_path / "bomb.gz", beginning, unit)
    tracemalloc.start()
    try:
        with pytest.raises(TraceError, match=message) as caught:
            read_file(tmp_path / "bomb.gz", NoTokenizer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6
    assert "\n" not in str(caught.value)


def test_rows_may_take_so_much_memory_and_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows_module, "MAX_SIZE", 1000)
    assert len(collected([Row(1, 1)] * 6, "trace")) == 6
    with pytest.raises(TraceError, match="trace is too large: up to row 7 it needs"):
        collected([Row(1, 1)] * 7, "trace")
    with pytest.raises(TraceError, match="up to row 3 it needs"):
        collected([Row(1, 1, arrival_time=1.0, session="a" * 100)] * 4, "trace")
    ids = (1,)
    assert len(collected([Row(1, 1, ids)] * 3, "trace")) == 3  # turns of one conversation
    with pytest.raises(TraceError, match="up to row 2 it needs"):
        collected([Row(1, 1), Row(2, 1, (1, 1))], "trace")
    with pytest.raises(TraceError, match=r"trace is too large"):
        read(HEADER + b"1,1\n" * 7)


def test_texts_come_to_the_tokenizer_a_few_at_a_time():
    records = [{"instruction": "a" * 999, "output": "b" * number} for number in range(1000)]
    reading = read(json.dumps(records).encode())
    assert [(row.prompt_len, row.output_len) for row in reading.rows] == [(1000, n) for n in range(1000)]


def test_a_text_too_long_for_a_tokenizer_is_named():
    records = [{"instruction": "a", "output": "\u00e9" * (MAX_TEXT_SIZE // 2 + 1)}]
    with pytest.raises(TraceError, match="record 1: output is longer than 1,000,000 bytes"):
        read(json.dumps(records, ensure_ascii=False).encode())


def test_more_tokens_than_any_vocabulary_has_are_refused():
    ids = json.dumps({"requests": [{"prompt": list(range(MAX_VOCABULARY + 1)), "out": 1}]})
    with pytest.raises(TraceError, match="more than 300,000 different token ids"):
        read(ids.encode())
