"""Runs have names that tell them apart, and the order of their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.tools.report.run_labels import LINE_OPTIONS, in_order, natural, options_of, run_labels
from runs.saved_runs import small_run

if TYPE_CHECKING:
    from pathlib import Path


def test_labels_hold_what_differs(tmp_path: Path) -> None:
    runs = [small_run(tmp_path / "a"), small_run(tmp_path / "b", system="orca-max", rate=4.0)]
    assert run_labels(runs) == ["paged rate 2", "orca-max rate 4"]
    assert run_labels(runs[:1]) == ["paged"]
    endless = small_run(tmp_path / "c", rate=float("inf"), duration=None, num_requests=5)
    assert run_labels([endless]) == ["paged"]


def test_numbers_are_in_order_of_size(tmp_path: Path) -> None:
    sizes = (128, 8, 32, 16)
    runs = in_order([small_run(tmp_path / str(size), duration=2.0, block_size=size) for size in sizes])
    assert [run.config["block_size"] for run in runs] == [8, 16, 32, 128]
    assert sorted([("swap", 16), ("swap", 8), (None, 64)], key=natural) == [
        (None, 64), ("swap", 8), ("swap", 16)
    ]  # fmt: skip


def test_a_pool_floored_to_whole_blocks_is_the_same_pool(tmp_path: Path) -> None:
    runs = [small_run(tmp_path / str(size), duration=2.0, block_size=size) for size in (16, 128)]
    assert len({run.config["kv_slots"] for run in runs}) == 2
    pools = [options[LINE_OPTIONS.index("kv_slots")] for options in options_of(runs, LINE_OPTIONS)]
    assert pools == [15_696, 15_696]
    assert run_labels(runs) == ["paged block size 16", "paged block size 128"]
    smaller = small_run(tmp_path / "smaller", duration=2.0, kv_slots=15_008)
    assert "kv slots 15008" in run_labels([*runs, smaller])[-1]
