"""Azure's and BurstGPT's tables: times, failures, and the order of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pagedbench.workload.formats import read_file
from pagedbench.workload.rows import Row, TraceError
from pagedbench.workload.traffic_summary import arrivals_of

from .reading import NoTokenizer, read

if TYPE_CHECKING:
    from pathlib import Path

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
BURST_2 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"


def test_azure_times_have_seven_digits_and_count_from_the_first_row():
    text = AZURE + "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
    rows = read(text).rows
    assert [(row.prompt_len, row.output_len) for row in rows] == [(374, 44), (396, 109)]
    assert [row.arrival_time for row in rows] == [0.0, pytest.approx(4.314579, abs=1e-12)]


def test_azure_times_of_2024_name_a_time_zone():
    text = AZURE + "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10T01:00:01.009930+01:00,7,8\n"
    assert [row.arrival_time for row in read(text).rows] == [0.0, 1.0]
    without_fraction = AZURE + "2024-05-12 23:59:59+00:00,1,2\n2024-05-13 00:00:00.5Z,3,4\n"
    assert [row.arrival_time for row in read(without_fraction).rows] == [0.0, 1.5]


def test_azure_rows_are_sorted_and_the_earliest_arrives_at_zero():
    text = AZURE + "2023-11-16 00:00:02,1,1\n2023-11-16 00:00:01,2,2\n2023-11-16 00:00:02,3,3\n"
    assert read(text).rows == (Row(2, 2, None, 0.0), Row(1, 1, None, 1.0), Row(3, 3, None, 1.0))


def test_azure_columns_without_times():
    assert read(AZURE + "X,42,285\nXXXX,19,82\n").rows == (Row(42, 285), Row(19, 82))


@pytest.mark.parametrize("header", [BURST, BURST_2])
def test_burstgpt_failures_are_left_out_and_counted(header):
    middle = "ChatGPT," if header is BURST else "7,1.5,ChatGPT,"
    text = header + f"5,{middle}472,18,490,Conversation log\n6,{middle}9,0,9,API log\n7.5,{middle}1,2,3,x\n"
    reading = read(text)
    assert reading.rows == (Row(472, 18, None, 5.0), Row(1, 2, None, 7.5))
    assert reading.num_unreadable == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (AZURE, "trace has a header, but no rows"),
        (AZURE + "2023-11-16 18:15:46,1\n", "line 2 has 2 cells, but the header names 3"),
        (
            AZURE + "2023-13-16 18:15:46,1,1\n",
            "line 2: TIMESTAMP is '2023-13-16 18:15:46', but must be a date",
        ),
        (AZURE + "0001-01-01 00:00:00+23:59,1,1\n9999-12-31 00:00:00,1,1\n", "spans more than 1e"),
        (AZURE + "soon,1,1\n", "TIMESTAMP is 'soon', but must be a date such as"),
        (AZURE + "2023-11-16 18:15:46+99:00,1,1\n", "TIMESTAMP is"),
        (AZURE + "XX,1,1\n2023-11-16 18:15:46,1,1\n", "has times for 1 of its 2 requests"),
        (AZURE + "XX,1.5,1\n", "line 2: ContextTokens is '1.5', which is not a whole number"),
        (AZURE + "XX,1,-1\n", "line 2: GeneratedTokens is '-1', but a length is 0 or more"),
        (BURST + "5,m,1,0,1,x\n", "every request of trace failed: none has response tokens"),
        (BURST + "nan,m,1,1,1,x\n", "Timestamp is 'nan', but must be a number of seconds from 0"),
        (BURST + "1e99,m,1,1,1,x\n", "Timestamp is '1e99'"),
        (BURST + "5,m,many,1,1,x\n", "Request tokens is 'many'"),
        (BURST + "5,m,1,1,1\n", "line 2 has 5 cells"),
    ],
)
def test_malformed_tables_are_named(text, message):
    with pytest.raises(TraceError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "number", "duration", "gap_cv"), [("conv", 19_366, 3_502, 1.09), ("code", 8_819, 3_436, 13.2)]
)
def test_azure_traces_of_2023(test_data: Path, name, number, duration, gap_cv):
    path = test_data / "azure2023" / f"AzureLLMInferenceTrace_{name}.csv.gz"
    rows = read_file(path, NoTokenizer).rows
    arrivals = arrivals_of(rows)
    assert arrivals is not None
    assert len(rows) == number
    assert arrivals.duration == pytest.approx(duration, abs=0.5)
    assert arrivals.gap_cv == pytest.approx(gap_cv, rel=5e-3)


def test_real_tables_of_others(test_data: Path):
    reading = read_file(test_data / "burstgpt" / "burstgpt_sample.csv", NoTokenizer)
    assert (len(reading.rows), reading.num_unreadable) == (51, 3)
    rows = read_file(test_data / "sharegpt" / "nanoflow_sharegpt.csv.gz", NoTokenizer).rows
    assert (len(rows), rows[0].arrival_time) == (58_787, None)
