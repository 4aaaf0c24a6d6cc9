"""A trace at its own times: the whole file, under the model's own limit, and what was dropped is said."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from cli.command import SIMULATED, Answer
from pagedbench.systems import SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Answer]

MODEL = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
ROWS = [(100, 20, 0.5), (1900, 200, 30.0), (4000, 96, 61.0), (0, 5, 70.0), (300, 10, 125.0)]
"""Prompt, output, seconds: one row is longer than 2,048 tokens, one than 4,096, one is empty."""


@pytest.fixture
def trace(here: Path) -> str:
    lines = [f"{prompt},{output},{time}" for prompt, output, time in ROWS]
    (here / "t.csv").write_text("\n".join(["prompt_len,output_len,arrival_s", *lines]) + "\n")
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text(json.dumps(MODEL))
    return "t.csv"


def requests_of(folder: Path) -> list[tuple[int, float]]:
    with (folder / "requests.csv").open(encoding="utf-8", newline="") as file:
        return [(int(row["prompt_len"]), float(row["arrival_s"])) for row in csv.DictReader(file)]


def words_of(text: str) -> str:
    return " ".join(text.split())


def test_the_whole_file_is_replayed_in_its_own_order(pagedbench: Command, here: Path, trace: str) -> None:
    answer = pagedbench("run", *SIMULATED, "--trace", trace, "--arrival", "trace", "--output", "out")
    assert answer.code == 0
    assert requests_of(here / "out") == [(100, 0.5), (300, 125.0)]
    assert (
        "3 of 5 requests, 60 %: 2 longer than --max-model-len 2048, 1 a length below 1; the mean prompt "
        "falls from 1,260 to 200"
    ) in words_of(answer.out)
    dropped = json.loads((here / "out" / "manifest.json").read_text())["trace"]["dropped"]
    assert (dropped["num_rows"], dropped["num_too_long"], dropped["num_empty"]) == (5, 2, 1)
    assert (dropped["share"], dropped["max_model_len"]) == (0.6, 2048)
    assert (dropped["mean_prompt_len_before"], dropped["mean_prompt_len_after"]) == (1260.0, 200.0)
    brief = ("--duration", "60", "--output", "brief")
    assert pagedbench("run", *SIMULATED, "--trace", trace, "--arrival", "trace", *brief).code == 0
    assert requests_of(here / "brief") == [(100, 0.5)]


def test_the_default_limit_is_the_models_for_every_system(
    pagedbench: Command, here: Path, trace: str
) -> None:
    options = ("--device", "sim:a100-80gb", "--model", "model", "--trace", trace, "--arrival", "trace")
    answer = pagedbench("compare", *options, "--output", "all")
    assert answer.code == 0
    assert "2 of 5 requests, 40 %: 1 longer than --max-model-len 4096, 1 a length" in words_of(answer.out)
    folders = sorted((here / "all").iterdir())
    assert len(folders) == len(SYSTEMS)
    for folder in folders:
        assert "max_model_len = 4096" in (folder / "config.toml").read_text()
        assert [prompt for prompt, _ in requests_of(folder)] == [100, 1900, 300]
    assert pagedbench("sweep", *options, "--output", "swept", "--jobs", "1").code == 0
    (config,) = (here / "swept").glob("*/config.toml")
    assert "max_model_len = 4096" in config.read_text()


def test_a_limit_that_was_asked_for_wins(pagedbench: Command, trace: str) -> None:
    options = ("--device", "sim:a100-80gb", "--model", "model", "--trace", trace, "--arrival", "trace")
    answer = pagedbench("run", *options, "--max-model-len", "1000", "--dry-run")
    assert "2 longer than --max-model-len 1000" in words_of(answer.out)
    assert "--max-model-len 4096" in words_of(pagedbench("run", *options, "--dry-run").out)
    short = ("--device", "sim:a100-80gb", "--model", "model", "--trace", "sharegpt", "--dry-run")
    assert "--max-model-len 2048" in words_of(pagedbench("run", *short).out)


def test_a_chat_says_which_turns_were_dropped(pagedbench: Command, here: Path) -> None:
    (here / "chat.csv").write_text("prompt_len,output_len,session\n1500,100,a\n1500,100,a\n5,5,b\n")
    answer = pagedbench("run", *SIMULATED, "--chat", "--trace", "chat.csv", "--rate", "inf")
    assert answer.code == 0
    assert (
        "1 of 3 requests, 33.3 %: longer than --max-model-len 2048; the mean prompt falls from 1,535 to 752"
    ) in words_of(answer.out)
