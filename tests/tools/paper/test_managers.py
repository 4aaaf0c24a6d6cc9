"""Claims of managers beyond paging, at a size that a test has time for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagedbench.tools.paper.field_setup import figures_of
from pagedbench.tools.paper.figures import find_figures
from pagedbench.tools.paper.managers import DECODE, FIGURES, PAGED, PAGES, WINDOWS


def test_the_field_has_them() -> None:
    names = [figure.name for figure in FIGURES]
    assert names == ["windows", "pages"]
    assert set(names) <= {figure.name for figure in find_figures(["field"])}


def test_windows_waste_what_was_published() -> None:
    means = {name: {"output_throughput": 2.0, "preemptions": 0.0} for name in WINDOWS.setups}
    gemma, ministral, throughput = WINDOWS.judge(means)
    assert gemma.ours == pytest.approx(25.0)
    assert ministral.ours == pytest.approx(56.25)
    assert (throughput.ours, throughput.verdict) == (1.0, "missed")


def test_groups_hold_more_sequences_than_one_group() -> None:
    setup = replace(WINDOWS.setups["groups"], num_requests=24, output=200)
    apart, one = (figures_of(item, 0) for item in (setup, replace(setup, memory=PAGED)))
    assert float(apart["output_throughput"] or 0) > 1.3 * float(one["output_throughput"] or 0)


def test_contiguous_decodes_take_less_time_and_the_same_memory() -> None:
    setup = replace(DECODE, num_requests=4, output=50)
    paged, virtual = (figures_of(replace(setup, system=system), 0) for system in ("paged", "vattention"))
    assert 1.0 < float(paged["itl_p50_ms"] or 0) / float(virtual["itl_p50_ms"] or 1) < 1.23
    assert paged["preemptions"] == virtual["preemptions"] == 0
    assert {name.partition(",")[0] for name in PAGES.setups} == {"paged", "vattention"}
