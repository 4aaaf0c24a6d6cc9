"""A profile is read as it was written, or refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pagedbench.config import ConfigError
from pagedbench.simulation.block_sizes import BlockSizeTimes
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.simulation.profile import KERNELS, Profile, read_profile
from tools.calibrate.test_calibration import TRUE

KERNEL_TIMES = BlockSizeTimes({1: 0.9, 16: 1.2, 128: 1.0}, KERNELS)
PROFILE = Profile(
    "opt-125m", BUILT_IN_SHAPES["opt-125m"], "float32", "native", "A CPU", TRUE, 16, KERNEL_TIMES
)  # fmt: skip


@pytest.mark.parametrize("model", ["opt-125m", "gemma-3-12b", "mixtral-8x7b"])
def test_a_shape_with_windows_or_experts_is_read_as_it_was_written(tmp_path, model):
    path, profile = tmp_path / "p.json", replace(PROFILE, model=model, shape=BUILT_IN_SHAPES[model])
    path.write_text(json.dumps(profile.document()))
    assert read_profile(path) == profile
    says_so = "layers with windows take as long" in profile.costs("paged", 16).source
    assert says_so == (model == "gemma-3-12b")


def test_it_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(PROFILE.document()))
    assert read_profile(path) == PROFILE
    assert PROFILE.costs("paged", 16).context == 1.5e-6
    assert PROFILE.costs("contiguous", 16).context == 1.2e-6


def test_other_block_sizes_cost_what_the_kernels_say():
    small = PROFILE.costs("paged", 1)
    assert small.context == pytest.approx(1.5e-6 * 0.9 / 1.2)
    assert small.attention == f"0.9 x contiguous at blocks of 1; {KERNELS}"
    assert PROFILE.costs("paged", 256).context == pytest.approx(1.5e-6 / 1.2)  # as the largest measured
    assert PROFILE.costs("contiguous", 1).context == 1.2e-6
    assert PROFILE.costs("contiguous", 1).attention == ""
    assert small.source == PROFILE.costs("paged", 16).source  # one machine, one profile


def test_other_costs_are_another_source():
    source = PROFILE.costs("paged", 16).source
    assert source == PROFILE.costs("contiguous", 16).source
    slower = replace(PROFILE, fitted=replace(TRUE, step=1e-3))
    assert slower.costs("paged", 16).source != source
    other = replace(PROFILE, attention=BlockSizeTimes({16: 1.2}, KERNELS))
    assert other.costs("paged", 16).source != source


def damaged(change):
    document = PROFILE.document()
    change(document)
    return json.dumps(document)


DAMAGED = {
    "half of it": json.dumps(PROFILE.document())[:200],
    "a list": "[]",
    "another file": '{"format": "something"}',
    "another version": damaged(lambda d: d.update(schema_version=99)),
    "no seconds": damaged(lambda d: d.pop("seconds")),
    "no context": damaged(lambda d: d["seconds"]["context"].pop("paged")),
    "no block sizes": damaged(lambda d: d.update(paged_over_contiguous=[])),
    "a block size of no tokens": damaged(lambda d: d.update(block_size=0)),
    "no time at a block size": damaged(lambda d: d.update(paged_over_contiguous=[[16, 0.0]])),
    "a negative time": damaged(lambda d: d["seconds"].update(copy=-1.0)),
    "a word for a time": damaged(lambda d: d["seconds"].update(copy="fast")),
    "no number": damaged(lambda d: d["seconds"].update(copy=float("nan"))),
    "an empty curve": damaged(lambda d: d["seconds"].update(layers=[])),
    "an endless curve": damaged(lambda d: d["seconds"].update(layers=[[2**40, 1.0]])),
    "another shape": damaged(lambda d: d["shape"].update(wings=2)),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_one_is_refused(tmp_path, text):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"p\.json"):
        read_profile(path)


def test_a_missing_one_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="make one with pagedbench calibrate"):
        read_profile(tmp_path / "none.json")
