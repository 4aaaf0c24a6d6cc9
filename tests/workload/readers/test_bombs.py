"""Compressed bombs: a gigabyte in a megabyte is refused after little of it, or with bounded memory."""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from pagedbench.workload import rows as rows_module
from pagedbench.workload.formats import read_file
from pagedbench.workload.rows import TraceError

from .reading import NoTokenizer, lines

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

AZURE = b"TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = b"Timestamp,Request tokens,Response tokens\n"
LINE = b'{"hash_ids": [1], "input_length": 5, "output_length": 1}\n'
CALL = b'{"t": 0, "type": "n", "in": 9, "out": 1, "hash_ids": [1]}'
AGENT = b'{"t": 0, "type": "subagent", "requests": [' + CALL + b"]}"


def bomb(path: Path, beginning: bytes, unit: bytes) -> None:
    """A gzip file of one GB, which takes some MB."""
    part = gzip.compress(unit * (2_000_000 // len(unit)), 1)
    path.write_bytes(gzip.compress(beginning) + part * 500)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of the readers, a twentieth each, so that they are reached soon."""
    monkeypatch.setattr(rows_module, "MAX_SIZE", 2_000_000)
    for module in ("text_stream", "lengths_csv", "readers.json_lines"):
        monkeypatch.setattr(f"pagedbench.workload.{module}.MAX_LINE_LEN", 50_000)
    for module in ("json_stream", "readers.json_lines"):
        monkeypatch.setattr(f"pagedbench.workload.{module}.MAX_RECORD_LEN", 400_000)
    for module in ("lengths_csv", "records", "readers.json_lines"):
        monkeypatch.setattr(f"pagedbench.workload.{module}.MAX_RECORDS", 100_000)


def peak_of_refusal(path: Path, message: str) -> int:
    """The most bytes in use while a file is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(TraceError, match=message) as caught:
            read_file(path, NoTokenizer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    return peak


@pytest.mark.parametrize(
    ("beginning", "unit", "message"),
    [
        (b"", b'{"hash_ids":', "nests lists or objects too deeply"),
        (b'{"hash_ids": [1', b",1", "line 1, column 14 is longer than 400,000 characters"),
        (LINE + b'{"hash_ids": [1', b",1", "line 2 is longer than 400,000 characters: leave it out"),
        (LINE, b"\n", "has more than 50,000 blanks before line"),
        (LINE, b" ", "line 2 is longer than 400,000 characters"),
        (AZURE, b"1", "line 2 is longer than 50,000 characters"),
        (BURST, b"\n", "follows as many blanks"),
        (BURST, b" , \n", "follows as many blanks"),
        (b'{"requests": [' + CALL + b"]", b',"a": 1', "follows 10,000 others of one object"),
        (b'{"requests": [{"t": 0, "type": "subagent", "requests": [5', b",5", "longer than 400,000 char"),
    ],
)
@pytest.mark.usefixtures("small_limits")
def test_a_gigabyte_is_refused_after_little_of_it(tmp_path: Path, beginning, unit, message):
    bomb(tmp_path / "bomb.gz", beginning, unit)
    assert peak_of_refusal(tmp_path / "bomb.gz", message) < 10e6


@pytest.mark.parametrize(
    ("beginning", "unit"),
    [
        (LINE, LINE),
        (b'{"requests": [' + CALL, b"," + CALL),
        (b'{"requests": [' + CALL, b"," + AGENT),
        (AZURE, b"2023-11-16 18:15:46.6805900,374,44\n"),
        (b'{"format": "pagedbench trace", "version": 1}\n', b'{"prompt_len": 9, "output_len": 1}\n'),
    ],
    ids=["blocks", "weka", "weka sub-agents", "azure", "own"],
)
@pytest.mark.usefixtures("small_limits")
def test_rows_take_the_memory_that_is_counted(tmp_path: Path, beginning, unit):
    bomb(tmp_path / "bomb.gz", beginning, unit)
    assert peak_of_refusal(tmp_path / "bomb.gz", "is too large: up to row .* it needs 2 MB of memory") < 8e6


def ids_of(start: int, step: int) -> Iterable[list[int]]:
    return ([key * step for key in range(first, first + 100)] for first in itertools.count(start, 100))


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize(("start", "step"), [(0, 1), (0, 3), (2**40, 1)], ids=["dense", "sparse", "large"])
def test_different_ids_are_counted(tmp_path: Path, start, step):
    records = itertools.islice(ids_of(start, step), 1000)
    text = lines(*({"hash_ids": ids, "input_length": 10**6, "output_length": 1} for ids in records))
    (tmp_path / "ids.jsonl").write_text(text)
    assert peak_of_refusal(tmp_path / "ids.jsonl", "is too large: up to row .* it needs 2 MB") < 12e6
    calls = [
        {"t": 0, "type": "n", "in": 10**6, "out": 1, "hash_ids": ids}
        for ids in itertools.islice(ids_of(start, step), 1000)
    ]
    (tmp_path / "ids.json").write_text(json.dumps({"requests": calls}))
    assert peak_of_refusal(tmp_path / "ids.json", "is too large: up to row .* it needs 2 MB") < 12e6


@pytest.mark.parametrize(
    ("beginning", "unit"),
    [(b"", b'{"timestamp": 0, "requests": []}\n'), (BURST, b"1,1,0\n"), (b"[", b'{"conversations": []},')],
    ids=["aibrix", "burstgpt", "sharegpt"],
)
@pytest.mark.usefixtures("small_limits")
def test_records_that_are_all_left_out_come_to_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beginning, unit
):
    for module in ("lengths_csv", "records", "readers.json_lines"):
        monkeypatch.setattr(f"pagedbench.workload.{module}.MAX_RECORDS", 20_000)
    bomb(tmp_path / "bomb.gz", beginning, unit)
    assert peak_of_refusal(tmp_path / "bomb.gz", "has more than 20,000 (lines|records)") < 2.5e6


def test_a_process_that_reads_a_bomb_stays_small(tmp_path: Path):
    """The peak of the whole process, the interpreter and its libraries included."""
    bomb(tmp_path / "bomb.gz", b'{"hash_ids": [1', b",1")
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pagedbench.workload.dataset import load_dataset\n"
        "from pagedbench.workload.rows import TraceError\n"
        "try:\n"
        "    load_dataset(sys.argv[1])\n"
        "except TraceError:\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    print(status.partition('VmHWM:')[2].split()[0])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "bomb.gz")]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(answer.stdout) < 400_000  # KiB
