"""A real model from the command line: loaded once, warmed up, and its tokens saved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from models.folders import make_opt_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.command import Answer

    Command = Callable[..., Answer]

REAL = ("--device", "cpu", "--kv-slots", "512", "--max-model-len", "64", "--rate", "inf", "--warmup", "1")


def test_systems_share_one_model_and_agree_on_tokens(
    pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pagedbench.runs import runner

    loaded: list[object] = []
    load = runner.load_backend
    monkeypatch.setattr(runner, "load_backend", lambda plan: loaded.append(plan) or load(plan))
    model = make_opt_folder(here / "model")
    (here / "t.csv").write_text("prompt_len,output_len\n5,6\n9,3\n")
    answer = pagedbench(
        "compare",
        *REAL,
        "--dtype",
        "float32",
        "--model",
        model,
        "--trace",
        "t.csv",
        "--save-outputs",
        "--output",
        "out",
    )
    assert answer.code == 0
    assert "weights real" in answer.out
    assert len(loaded) == 1
    texts = {(folder / "outputs.jsonl").read_text() for folder in (here / "out").iterdir()}
    tokens = {tuple(tuple(json.loads(line)["token_ids"]) for line in text.splitlines()) for text in texts}
    assert len(list((here / "out").iterdir())) == 5
    assert [len(ids) for ids in tokens.pop()] == [6, 3]
    assert not tokens


def test_a_long_run_is_announced(pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pagedbench.show import progress

    model = make_opt_folder(here / "model")
    (here / "t.csv").write_text("prompt_len,output_len\n5,6\n")
    command = ("run", *REAL, "--model", model, "--trace", "t.csv")
    assert "takes about" not in pagedbench(*command).err
    monkeypatch.setattr(progress, "NOTABLE_TIME", 0.0)
    assert "This run of paged takes about" in pagedbench(*command).err


def test_the_cheapest_return_is_measured_and_changes_no_token(pagedbench: Command, here: Path) -> None:
    model = make_opt_folder(here / "model")
    (here / "t.csv").write_text("prompt_len,output_len\n" + "20,30\n17,35\n" * 4)
    options = (*REAL, "--model", model, "--dtype", "float32", "--trace", "t.csv", "--save-outputs")
    tight = ("--kv-slots", "128", "--preemption", "recompute,swap,cheapest", "--victim", "latest,cheapest")
    answer = pagedbench("run", *options, *tight, "--output", "out")
    assert answer.code == 0
    folders = [path for path in (here / "out").iterdir() if path.is_dir()]
    assert len(folders) == 6
    texts = [(folder / "outputs.jsonl").read_text() for folder in folders]
    tokens = {tuple(tuple(json.loads(line)["token_ids"]) for line in text.splitlines()) for text in texts}
    assert len(tokens) == 1
    for folder in folders:
        assert (folder / "preemptions.csv").is_file()


def test_measured_costs_reach_the_run(here: Path) -> None:
    from pagedbench.config import RunConfig
    from pagedbench.plan import make_plan
    from pagedbench.runs.runner import Runner
    from pagedbench.runs.traces import trace_of
    from pagedbench.workload.dataset import load_dataset

    (here / "t.csv").write_text("prompt_len,output_len\n5,6\n")
    config = RunConfig(model=make_opt_folder(here / "model"), device="cpu", kv_slots=512, max_model_len=64,
                       rate=float("inf"), preemption="cheapest", warmup=0, trace="t.csv")  # fmt: skip
    plan = make_plan(config)
    ready = Runner().prepare(plan, trace_of(plan, load_dataset("t.csv")))
    costs = ready.engine.scheduler.limits.costs
    for price in (costs.recompute_time, costs.swap_time):
        assert 0 < price(10) < 10  # seconds, not a number of tokens
        assert price(20) == 2 * price(10)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rate": float("inf")}, 24),
        ({"rate": 1.0, "num_requests": 2}, 0),
        ({"arrival": "closed", "max_concurrency": 1, "num_requests": 2}, 0),
        ({"rate": float("inf"), "system": "vattention", "page_size": "4KiB"}, None),  # commits its own
    ],
)
def test_memory_is_touched_for_what_is_there_from_the_start(
    here: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], expected: int | None
) -> None:
    from pagedbench.config import RunConfig
    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.plan import make_plan
    from pagedbench.runs.runner import Runner
    from pagedbench.runs.traces import trace_of
    from pagedbench.workload.dataset import load_dataset

    (here / "t.csv").write_text("prompt_len,output_len\n5,6\n4,9\n")
    touched: list[int] = []
    monkeypatch.setattr(KVCache, "touch", lambda _, num_slots: touched.append(num_slots))
    plan = make_plan(RunConfig(model=make_opt_folder(here / "model"), device="cpu", kv_slots=512,
                               max_model_len=64, warmup=0, trace="t.csv", **options))  # fmt: skip
    Runner().prepare(plan, trace_of(plan, load_dataset("t.csv")))
    assert touched == ([] if expected is None else [expected])
