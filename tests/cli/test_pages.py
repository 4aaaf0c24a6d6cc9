"""Options of pages: who takes them, which values they have, and what a run says of its pages."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cli.command import QUICK
from pagedbench.config import ConfigError, RunConfig
from pagedbench.memory.pages import KeptPages
from pagedbench.plan import make_plan
from pagedbench.pool import decide_pages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.command import Answer

    Command = Callable[..., Answer]

SIMULATED = {"system": "vattention", "model": "opt-13b", "device": "sim:a100-40gb"}


def test_a_run_says_what_its_pages_are_and_cost(pagedbench: Command, here: Path) -> None:
    answer = pagedbench(
        "run", *QUICK, "--system", "vattention,paged", "--commit-ahead", "0,32", "--output", "out"
    )
    assert answer.code == 0
    text = " ".join(answer.out.split())
    assert "76 of 2MiB in each of 80 tensors, 32 tokens committed ahead, kept pages: reuse; stated," in text
    folders = sorted(path.name for path in (here / "out").iterdir())
    assert len(folders) == 3  # nothing is committed for blocks
    rows = {}
    for path in (here / "out").iterdir():
        with (path / "summary.csv").open(encoding="utf-8", newline="") as file:
            (row,) = csv.DictReader(file)
        rows[row["system"], row["commit_ahead"]] = row
        document = json.loads((path / "summary.json").read_text(encoding="utf-8"))
        assert ("pages" in document) == (row["system"] == "vattention")
        if row["system"] == "vattention":
            found = document["pages"]
            assert (found["committed_ahead"] > 0) == (row["commit_ahead"] == "32")
            assert float(row["commit_time_mean_ms"]) == pytest.approx(
                1000 * found["waited_s"] / int(row["num_steps"])
            )
    assert set(rows) == {("vattention", "0"), ("vattention", "32"), ("paged", "")}
    assert rows["vattention", "0"]["page_size"] == "2MiB"
    waited = [float(rows["vattention", ahead]["commit_time_mean_ms"]) for ahead in ("0", "32")]
    assert waited[0] > waited[1] > 0
    assert rows["paged", ""]["commit_time_mean_ms"] == ""


VIRTUAL = ("--system", "vattention")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--page-size", "64KiB"), "--page-size has no effect without vattention"),
        (("--system", "orca-max", "--commit-ahead", "0"), "--commit-ahead has no effect without"),
        ((*VIRTUAL, "--prefix-caching"), "--prefix-caching has no effect without paged"),
        ((*VIRTUAL, "--kept-pages", "all"), "--kept-pages is one of reuse, late, none"),
        ((*VIRTUAL, "--commit-ahead", "-1"), "--commit-ahead must be at least 0"),
        ((*VIRTUAL, "--page-size", "3MiB"), "--page-size is a power of two from 4KiB to 2MiB"),
        ((*VIRTUAL, "--page-size", "4KiB"), "--page-size on a simulated card is one of"),
    ],
)
def test_options_without_effect_and_impossible_pages_are_refused(
    words: tuple[str, ...], message: str, pagedbench: Command
) -> None:
    answer = pagedbench("run", *QUICK, *words)
    assert (answer.code, answer.out) == (2, "")
    assert message in " ".join(answer.err.split())


def test_ranks_share_rows_and_a_gpu_is_refused() -> None:
    plan = make_plan(RunConfig(**SIMULATED, tensor_parallel_size=2, kept_pages="late", max_num_seqs=7))
    assert plan.pages is not None
    assert (plan.pages.row_bytes, plan.pages.page_bytes) == (5120, 2**21)
    assert (plan.pages.kept, plan.pages.max_extents) == (KeptPages.LATE, 7)
    with pytest.raises(ConfigError, match="vattention lets the operating system commit pages"):
        decide_pages(
            replace(plan.config, device="cuda", tensor_parallel_size=None, cost_model="auto"), plan.shape
        )
