"""AIBrix's and LLMServingSim's lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.workload.formats import read_file
from pagedbench.workload.rows import Row, TraceError

from .reading import NoTokenizer, lines, read

if TYPE_CHECKING:
    from pathlib import Path


def test_aibrix_has_requests_at_a_time():
    new = {"prompt": "hi", "prompt_length": 5, "output_length": 6, "session_id": 1}
    old = {"prompt": "hi", "Prompt Length": 7, "Output Length": 8}
    unknown = {"prompt": "hi", "prompt_length": 5, "output_length": None}
    text = lines(
        {"timestamp": 0, "requests": [new, unknown]},
        {"timestamp": 500, "requests": []},
        {"timestamp": 1500, "requests": [old, new]},
    )
    reading = read(text)
    assert reading.rows == (Row(5, 6, None, 0.0), Row(7, 8, None, 1.5), Row(5, 6, None, 1.5))
    assert reading.num_unreadable == 1


def test_servingsim_has_token_ids():
    timed = {"input_toks": 2, "output_toks": 1, "arrival_time_ns": 1_500_000_000}
    text = lines(
        timed | {"input_tok_ids": [5, 6], "output_tok_ids": [7]}, timed | {"input_tok_ids": [8, 9]}, timed
    )
    first, second, third = read(text).rows
    assert first == Row(2, 1, (5, 6, 7), 1.5)
    assert (first.prompt_ids, first.reply_ids) == ((5, 6), (7,))
    assert (second, third) == (Row(2, 1, (8, 9), 1.5), Row(2, 1, None, 1.5))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"timestamp": 0, "requests": []}, "no request of trace has a prompt and a reply of known length"),
        ({"timestamp": 0, "requests": 5}, "line 1: requests is 5, but must be a list"),
        ({"timestamp": 0, "requests": [5]}, "line 1, requests 1 is 5, but must be an object"),
        ({"timestamp": 0, "requests": [{"output_length": 5}]}, "requests 1: prompt_length is None"),
        ({"timestamp": None, "requests": []}, "timestamp is None, but must be a number"),
        (
            {"input_toks": 2, "output_toks": 1, "input_tok_ids": [1]},
            "input_toks is 2, but there are 1 input_tok",
        ),
        ({"input_toks": 1, "output_toks": 1, "input_tok_ids": [-1]}, "whole numbers from 0 to"),
        ({"input_toks": 1, "output_toks": 1, "input_tok_ids": ["a"]}, "must be a list of whole numbers"),
        ({"input_toks": 1, "output_toks": 1, "arrival_time_ns": -1}, "arrival_time_ns is -1"),
        ({"input_toks": 1.0, "output_toks": 1}, "input_toks is 1.0"),
        (
            {"question": 1, "answer": 2},
            "line 1 has the fields 'question', 'answer', but a trace of JSON lines has",
        ),
    ],
)
def test_malformed_lines_are_named(record, message):
    with pytest.raises(TraceError, match=message) as caught:
        read(lines(record))
    assert "\n" not in str(caught.value)


def test_real_lines(test_data: Path):
    rows = read_file(test_data / "sharegpt" / "aibrix_8min_up_and_down.jsonl.gz", NoTokenizer).rows
    assert len(rows) == 2_026
    assert sum(row.prompt_len for row in rows) / len(rows) == pytest.approx(293.6, abs=0.05)
    assert rows[-1].arrival_time - rows[0].arrival_time == pytest.approx(456, abs=0.5)
    rows = read_file(test_data / "sharegpt" / "llmservingsim_llama31_300.jsonl.gz", NoTokenizer).rows
    assert len(rows) == 300
    assert sum(row.prompt_len for row in rows) / len(rows) == pytest.approx(857, abs=0.5)
    assert all(len(row.prompt_ids) == row.prompt_len for row in rows)
