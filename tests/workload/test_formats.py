"""Every format is read by its content, and everything malformed is one clear TraceError."""

from __future__ import annotations

import gzip
import io
import json
import string
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedbench.workload.formats import parse, read_file
from pagedbench.workload.lengths_csv import write_lengths
from pagedbench.workload.rows import MAX_LENGTH, Reading, Row, TraceError

if TYPE_CHECKING:
    from pathlib import Path


class LetterTokenizer:
    """One token a letter, its code point, after a BOS of 2."""

    def encode(self, texts):
        return [[2, *(ord(letter) for letter in text)] for text in texts]


def read(text: str | bytes) -> Reading:
    data = text if isinstance(text, bytes) else text.encode()
    return parse(io.BufferedReader(io.BytesIO(data)), "trace", LetterTokenizer)


def turn(speaker: str, value: str) -> dict[str, str]:
    return {"from": speaker, "value": value}


def test_own_csv():
    assert read("prompt_len,output_len\n3,4\n0,5\n").rows == (Row(3, 4), Row(0, 5))


def test_columns_in_any_order_with_blank_lines_bom_and_windows_line_ends():
    text = "\ufeffarrival_s, output_len,n,prompt_len,beam_width\r\n0.5,4,1,3,\r\n\r\n1e0,2,,1,1\r\n"
    assert read(text).rows == (Row(3, 4, None, 0.5, n=1), Row(1, 2, None, 1.0, beam_width=1))


def test_rows_may_say_how_they_are_decoded_and_whose_turn_they_are():
    text = "prompt_len,output_len,session,n,beam_width\n3,4,a,,\n5,6,,4,\n7,8,a, ,2\n1,1,,3,1\n"
    assert read(text).rows == (
        Row(3, 4, session="a"),
        Row(5, 6, n=4),
        Row(7, 8, session="a", beam_width=2),
        Row(1, 1, n=3, beam_width=1),
    )


def test_gzip_is_known_by_its_content():
    text = b"prompt_len,output_len\n3,4\n"
    assert read(gzip.compress(text)) == read(text)


def test_sharegpt_takes_the_first_human_turn_and_the_first_reply_after_it():
    records = [
        {"id": "a", "conversations": [turn("human", "ab"), turn("gpt", "c"), turn("human", "zzz")]},
        {
            "id": "b",
            "conversations": [turn("gpt", "zzz"), turn("user", "a"), turn("system", "z"), turn("bard", "")],
        },
        {"id": "c", "conversations": [turn("human", "no reply")]},
        {"id": "d", "conversations": [turn("gpt", "no prompt")]},
        {"id": "e", "conversations": []},
        {"id": "f", "conversations": [turn("human", "a"), turn("human", "zz"), turn("bing", "bb")]},
    ]
    reading = read(json.dumps(records))
    assert reading.rows == (Row(3, 2, (2, 97, 98)), Row(2, 1, (2, 97)), Row(2, 3, (2, 97)))
    assert reading.num_unreadable == 3
    assert reading.is_text


def test_alpaca_puts_a_space_after_the_instruction_even_without_input():
    records = [
        {"instruction": "a", "input": "b", "output": "cd", "text": "the template, ignored"},
        {"instruction": "a", "input": "", "output": ""},
        {"instruction": "a", "output": "c"},
    ]
    assert read(json.dumps(records)).rows == (
        Row(4, 3, (2, 97, 32, 98)),
        Row(3, 1, (2, 97, 32)),
        Row(3, 2, (2, 97, 32)),
    )


def test_token_ids():
    reading = read('{"requests": [{"prompt": [5, 6], "out": 3}, {"prompt": [], "out": 0}]}')
    assert reading.rows == (Row(2, 3, (5, 6)), Row(0, 0, ()))
    assert not reading.is_text
    wide = '{"requests": [{"prompt": [5], "out": 3, "n": 2}, {"prompt": [5], "out": 3, "beam_width": 4}]}'
    assert read(wide).rows == (Row(1, 3, (5,), n=2), Row(1, 3, (5,), beam_width=4))


def test_lengths_under_the_names_of_others_are_read_and_their_other_columns_are_not():
    etalon = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n74,918,992,0.08\n"
    assert read(etalon).rows == (Row(74, 918),)
    counted = "instruction_tokens,input_tokens,prompt_tokens,output_tokens\nx,,12,65\n"
    assert read(counted).rows == (Row(12, 65),)


HEADER = "prompt_len,output_len\n"
TIMED = "prompt_len,output_len,arrival_s\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "trace is empty"),
        (" \n", "trace is empty"),
        (HEADER, "no rows"),
        ("a,b\n1,2\n", "no column prompt_len and no column output_len"),
        ("prompt_len\n1\n", "no column output_len"),
        ("prompt_len,output_len,cost,price\n1,2,3,4\n", "unknown column 'cost', 'price'"),
        ("prompt_len,prompt_tokens,output_tokens\n1,2,3\n", "no column output_len"),
        ("prompt_tokens,output_tokens\n1,x\n", "line 2: output_len is 'x'"),
        ("prompt_len,output_len,prompt_len\n1,2,3\n", "prompt_len more than once"),
        ("prompt_len,output_len,n\n1,2,1\n1,2,0\n", "line 3: n is '0', but must be a whole number from 1"),
        ("prompt_len,output_len,beam_width\n1,2,two\n", "line 2: beam_width is 'two'"),
        ("prompt_len,output_len,n\n1,2," + "9" * 5000 + "\n", "line 2: n is '999.*from 1 to 4096"),
        ("prompt_len,output_len,n,beam_width\n1,2,2,2\n", "line 2 has both n and beam_width"),
        (HEADER + "1,2\n1.5,2\n", "line 3: prompt_len is '1.5', which is not a whole number"),
        (HEADER + "1,\n", "line 2: output_len is ''"),
        (HEADER + "1,-2\n", "line 2: output_len is '-2', but a length is 0 or more"),
        (HEADER + "1,\u0663\n", "not a whole number"),
        (HEADER + "1," + "9" * 5000 + "\n", "more than 2147483647 tokens"),
        (HEADER + "1,2147483648\n", "more than 2147483647 tokens"),
        (HEADER + "1\n", "line 2 has 1 cells, but the header names 2"),
        (HEADER + "1,2,3\n", "line 2 has 3 cells"),
        (HEADER + '1,"' + "2" * 200_000 + '"\n', "cannot be read as CSV"),
        (TIMED + "1,2,\n", "arrival_s is '', which is not a number"),
        (TIMED + "1,2,nan\n", "arrival_s is 'nan', but must be finite"),
        (TIMED + "1,2,inf\n", "must be finite"),
        (TIMED + "1,2,-0.5\n", "0 or more seconds"),
        (TIMED + "1,2,3\n1,2,2\n", "line 3: arrival_s is '2', earlier than the row before it"),
        (b"prompt_len,output_len\n\xff,1\n", "not UTF-8 text: byte 22"),
        (gzip.compress(b"x" * 999, mtime=0)[:-9], "damaged gzip"),
        (b"\x1f\x8bnonsense", "damaged gzip"),
        ('[{"instruction": "a", "output": "b"},\n oops]', "not valid JSON: .* at line 2, column 2"),
        ("[" * 100_000, "line 1, column 2 nests lists or objects too deeply to be read"),
        ('[{"a": ' + "[" * 100_000, "line 1, column 2 nests lists or objects too deeply to be read"),
        ("[" + "9" * 5000 + "]", "line 1, column 2 holds a number of thousands of digits: correct it"),
        ("[]", "holds no records"),
        ("[1, 2]", "record 1 is 1, but must be an object"),
        ('[{"a": 1}]', "neither conversations .* its fields are 'a'"),
        ('[{"instruction": "a", "output": "b"}, 7]', "record 2 is 7"),
        ('[{"instruction": "a"}]', "record 1: output is None, but must be text"),
        ('[{"instruction": "a", "input": null, "output": ""}]', "record 1: input is None"),
        ('[{"conversations": {}}]', "record 1: conversations is .*must be a list"),
        ('[{"conversations": ["hi"]}]', "record 1: a turn is 'hi'"),
        ('[{"conversations": [{"from": "human"}]}]', "record 1: value is None, but must be text"),
        ('[{"conversations": [{"value": "human"}]}]', "record 1: from is None"),
        (
            '[{"conversations": [{"from": "human", "value": "a"}]}]',
            "no record of trace has a prompt and a reply",
        ),
        ("{}", 'without a list "requests"'),
        ('{"requests": {}}', 'without a list "requests"'),
        ('{"requests": []}', "holds no requests"),
        ('{"requests": [3]}', "request 1 is 3"),
        ('{"requests": [{"prompt": [1], "out": 1}, {"prompt": [1]}]}', "request 2 is"),
        ('{"requests": [{"prompt": [1], "out": 1, "k": 2}]}', 'must have "prompt" and "out", and may have'),
        ('{"requests": [{"prompt": [1], "out": 1, "n": 0}]}', "n is 0, but must be a whole number from 1"),
        ('{"requests": [{"prompt": [1], "out": 1, "n": true}]}', "n is True"),
        ('{"requests": [{"prompt": [1], "out": 1, "n": 2, "beam_width": 2}]}', "both n and beam_width"),
        ('{"requests": [{"prompt": "hi", "out": 1}]}', "prompt is .*, but must be a list"),
        (
            '{"requests": [{"prompt": [1.0], "out": 1}]}',
            "prompt is .*, but must be a list",
        ),
        ('{"requests": [{"prompt": [-1], "out": 1}]}', "prompt is .*, but must be a list"),
        ('{"requests": [{"prompt": [1], "out": true}]}', "out is True, but must be a whole number"),
        ('{"requests": [{"prompt": [1], "out": -1}]}', "out is -1"),
    ],
)
def test_malformed_content_is_named(content, message):
    with pytest.raises(TraceError, match=message) as caught:
        read(content)
    assert "trace" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 320


def test_files_that_cannot_be_read(tmp_path: Path):
    for path, message in [
        (tmp_path / "missing.csv", "does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "a\0b", "cannot read"),
        (tmp_path / ("x" * 999), "cannot read"),
    ]:
        with pytest.raises(TraceError, match=message):
            read_file(path, LetterTokenizer)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(data):
    for content in (data, b"\x1f\x8b" + data, b"[" + data, HEADER.encode() + data):
        with suppress(TraceError):
            assert read(content).rows


KEYS = st.sampled_from(
    ["requests", "prompt", "out", "conversations", "from", "value", "instruction", "output"]
)
WORDS = st.sampled_from(["human", "gpt", "x"]) | st.text(max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | WORDS, inner, max_size=3),
    max_leaves=20,
)


@given(JSON)
def test_random_json_raises_nothing_else(value):
    try:
        reading = read(json.dumps(value))
    except TraceError:
        return
    assert reading.rows


CELLS = st.text(alphabet=string.digits + "-.einfna, \"'\n", max_size=8)


@given(st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=4))
def test_random_cells_raise_nothing_else(lines):
    text = TIMED + "\n".join(",".join(cells) for cells in lines)
    try:
        rows = read(text).rows
    except TraceError:
        return
    times = [row.arrival_time for row in rows]
    assert times == sorted(times)
    assert all(row.prompt_len >= 0 and row.output_len >= 0 for row in rows)


LENGTHS = st.integers(0, MAX_LENGTH)
TIMES = st.floats(0, 1e9)


@given(st.lists(st.tuples(LENGTHS, LENGTHS, TIMES), min_size=1), st.booleans(), st.booleans())
def test_own_csv_round_trip(tmp_path_factory, values, timed, zipped):
    times = sorted(time for _, _, time in values)
    rows = tuple(Row(p, o, None, t if timed else None) for (p, o, _), t in zip(values, times, strict=True))
    path = tmp_path_factory.getbasetemp() / ("round.csv.gz" if zipped else "round.csv")
    write_lengths(rows, path)
    assert read_file(path, LetterTokenizer).rows == rows


SESSIONS = st.none() | st.text('abc ,"', min_size=1).map(str.strip).filter(bool)
WIDTHS = st.tuples(st.none() | st.integers(1, 9), st.none() | st.just(1)) | st.tuples(
    st.none(), st.integers(1, 9)
)


@given(st.lists(st.tuples(SESSIONS, WIDTHS), min_size=1))
def test_own_csv_round_trip_of_decoding_and_sessions(tmp_path_factory, values):
    rows = tuple(Row(1, 2, session=session, n=n, beam_width=k) for session, (n, k) in values)
    path = tmp_path_factory.getbasetemp() / "wide.csv"
    write_lengths(rows, path)
    assert read_file(path, LetterTokenizer).rows == rows


def test_written_files_are_equal_and_whole(tmp_path: Path):
    rows = [Row(3, 4), Row(5, 6)]
    write_lengths(rows, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_bytes() == b"prompt_len,output_len\n3,4\n5,6\n"
    write_lengths(rows, tmp_path / "a.csv.gz")
    first = (tmp_path / "a.csv.gz").read_bytes()
    write_lengths(rows, tmp_path / "a.csv.gz")
    assert (tmp_path / "a.csv.gz").read_bytes() == first
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.csv", "a.csv.gz"]


def test_a_failed_write_leaves_nothing(tmp_path: Path):
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "taken", tmp_path / "missing" / "a.csv"):
        with pytest.raises(TraceError, match="cannot write"):
            write_lengths([Row(1, 1)], path)
    with pytest.raises(TraceError, match="no rows"):
        write_lengths([], tmp_path / "b.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]
    assert not list((tmp_path / "taken").iterdir())


def test_the_lengths_that_the_paper_replayed(test_data: Path):
    reading = read_file(test_data / "sharegpt" / "sharegpt_opt_lengths.csv.gz", LetterTokenizer)
    kept = [row for row in reading.rows if row.prompt_len + row.output_len < 2048]
    assert (len(reading.rows), len(kept)) == (84_226, 79_725)
    assert sum(row.prompt_len for row in kept) / len(kept) == pytest.approx(161.1842, abs=1e-4)
    assert sum(row.output_len for row in kept) / len(kept) == pytest.approx(337.9971, abs=1e-4)


def test_real_sharegpt_records(test_data: Path):
    folder = test_data / "sharegpt"
    reading = read_file(folder / "sharegpt_sample_50.json.gz", LetterTokenizer)
    assert (len(reading.rows), reading.num_unreadable) == (50, 0)
    reading = read_file(folder / "fastchat_dummy_conversation.json.gz", LetterTokenizer)
    assert reading.rows[0].token_ids == (2, *map(ord, "Who are you?"))
    with pytest.raises(TraceError, match=r"no record .* has a prompt and a reply"):
        read_file(folder / "ShareGPT_V3_filtered_500.json.gz", LetterTokenizer)
