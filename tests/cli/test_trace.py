"""`trace show` and `trace import` of traces with times, block hashes and sessions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .command import Answer

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n2023-11-16 18:15:50.5,396,9\n"


def block_lines(**fields: object) -> str:
    prompts = [[0, 1, 2], [0, 1, 3], [0, 4]]
    records = [
        {"timestamp": 1000 * i, "input_length": 30 * len(ids), "output_length": 5, "hash_ids": ids} | fields
        for i, ids in enumerate(prompts)
    ]
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture(autouse=True)
def _files(here: Path) -> None:
    """A trace of blocks and one of times, where the command runs."""
    (here / "blocks.jsonl").write_text(block_lines())
    (here / "azure.csv").write_text(AZURE)


def test_show_describes_arrivals(pagedbench: Callable[..., Answer]):
    answer = pagedbench("trace", "show", "azure.csv")
    assert answer.code == 0
    assert "Arrivals    4 s, 0.444 requests/s on average, at most 1 within a second" in answer.out
    assert "coefficient of variation of the gaps 0 (1: a Poisson process)" in answer.out
    assert "requests/s" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80


def test_show_describes_blocks(pagedbench: Callable[..., Answer]):
    answer = pagedbench("trace", "show", "blocks.jsonl", "--block-size", "30")
    assert "8 of 30 tokens, 5 of them different" in answer.out
    assert "in any request: 37.5 % of blocks, 37.5 % of tokens" in answer.out
    assert "own session" not in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    same = pagedbench("trace", "show", "blocks.jsonl", "--trace-block-size", "30")
    assert same.out == answer.out


def test_show_describes_sessions(pagedbench: Callable[..., Answer], here: Path):
    (here / "chat.csv").write_text("prompt_len,output_len,session\n10,5,a\n7,1,\n5,5,a\n")
    answer = pagedbench("trace", "show", "chat.csv")
    assert "2.00 a session on average, 2 at most; 0 wait for several others" in " ".join(answer.out.split())
    assert "40.5 % of prompt tokens are earlier turns of the session" in answer.out


def test_block_hashes_are_kept_as_jsonl_and_never_lost(pagedbench: Callable[..., Answer], here: Path):
    options = ("--block-size", "30")
    answer = pagedbench("trace", "import", "blocks.jsonl", *options, "--output", "a.csv")
    assert answer.code == 2
    assert "a CSV cannot keep the block hashes and turns of this trace: give a name" in answer.sentence
    assert answer.sentence.endswith("that ends in .jsonl or .jsonl.gz")
    assert not (here / "a.csv").exists()
    for name in ("a.jsonl", "a.jsonl.gz"):
        assert pagedbench("trace", "import", "blocks.jsonl", *options, "--output", name).code == 0
        assert load_dataset(here / name).rows == load_dataset(here / "blocks.jsonl", block_size=30).rows


def test_times_are_kept_as_csv(pagedbench: Callable[..., Answer], here: Path):
    answer = pagedbench("trace", "import", "azure.csv", "--output", "a.csv")
    assert answer.out == "Wrote 2 rows to a.csv\n"
    assert (here / "a.csv").read_text() == "prompt_len,output_len,arrival_s\n374,44,0.0\n396,9,4.5\n"


def test_what_is_left_out_is_counted(pagedbench: Callable[..., Answer], here: Path):
    table = "Timestamp,Request tokens,Response tokens\n1,5,6\n2,5,0\n"
    (here / "burst.csv").write_text(table)
    answer = pagedbench("trace", "import", "burst.csv", "--output", "a.csv")
    assert answer.out == "Wrote 1 rows to a.csv; 1 records that lack a prompt or a reply were left out\n"
    assert "1 record that lack a prompt or a reply" in pagedbench("trace", "show", "burst.csv").out


def test_a_block_size_without_an_effect_is_refused(pagedbench: Callable[..., Answer], here: Path):
    (here / "sized.jsonl").write_text(block_lines(block_size=40))
    for name, reason in (
        ("azure.csv", "holds no block hashes"),
        ("sized.jsonl", "states its block size itself"),
    ):
        answer = pagedbench("trace", "show", name, "--block-size", "50")
        assert (answer.code, answer.sentence) == (2, f"--block-size has no effect: {name} {reason}")
    answer = pagedbench("trace", "show", "blocks.jsonl", "--block-size", "31")
    assert answer.code == 0  # fewer blocks than the prompts take


def test_a_block_size_too_large_for_the_hashes_is_named(pagedbench: Callable[..., Answer]):
    answer = pagedbench("trace", "show", "blocks.jsonl", "--block-size", "100")
    assert answer.code == 2
    assert answer.sentence.startswith(
        "blocks.jsonl line 1: input_length is 90, but its 3 hash_ids are more"
    )
