"""Several ranks from the command line: what a run says of them, and what is refused before any starts."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

from models.folders import make_llama_folder
from pagedbench.execution.parallel import launch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from cli.command import Answer

    Command = Callable[..., Answer]

REAL = ("--device", "cpu", "--dtype", "float32", "--kv-slots", "512", "--max-model-len", "64",
        "--rate", "inf", "--warmup", "1", "--trace", "t.csv", "--save-outputs")  # fmt: skip


def test_one_and_two_ranks_emit_the_same_tokens(pagedbench: Command, here: Path) -> None:
    model = make_llama_folder(here / "model")
    (here / "t.csv").write_text("prompt_len,output_len\n5,6\n9,3\n20,4\n")
    try:
        answer = pagedbench("run", *REAL, "--model", model, "-tp", "1,2", "--output", "out")
    finally:
        while launch._running:
            launch._running.pop().close()
    assert answer.code == 0, answer.err
    assert "2 ranks (gloo), " in answer.out
    assert " MiB per rank" in answer.out
    one, two = sorted((here / "out").iterdir())
    assert (one / "outputs.jsonl").read_text() != ""
    tokens = [
        [json.loads(line)["token_ids"] for line in (run / "outputs.jsonl").read_text().splitlines()]
        for run in (one, two)
    ]
    assert tokens[0] == tokens[1]
    facts = [json.loads((run / "manifest.json").read_text())["plan"]["ranks"] for run in (one, two)]
    assert facts[0] is None
    assert (facts[1]["number"], facts[1]["backend"], facts[1]["torchrun"]) == (2, "gloo", False)
    assert facts[1]["threads_per_rank"] >= 1
    assert facts[1]["kv_bytes_per_rank"] == 512 * 2 * 2 * 1 * 16 * 4  # one head in 2 layers
    steps = [list(csv.DictReader((run / "steps.csv").read_text().splitlines())) for run in (one, two)]
    assert "broadcast_bytes" not in steps[0][0]
    assert all(int(row["broadcast_bytes"]) >= 4096 for row in steps[1])
    assert pagedbench("report", two).code == 0


def test_what_ranks_cannot_share_is_refused(
    pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "t.csv").write_text("prompt_len,output_len\n5,6\n")
    llama = make_llama_folder(here / "model")
    sentence = "--tensor-parallel-size 3 does not divide the 4 heads of model: choose another"
    answer = pagedbench("run", *REAL, "--model", llama, "-tp", 3)
    assert (answer.code, answer.sentence[: len(sentence)]) == (2, sentence)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    answer = pagedbench("run", *REAL, "--model", llama)
    assert answer.code == 2
    assert "torchrun has started 2 ranks, but the run asks for 1: give --tensor-parallel" in answer.sentence
