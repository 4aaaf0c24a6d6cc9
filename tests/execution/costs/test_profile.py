"""A profile is read as it was written, or refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from execution.costs.test_calibration import TRUE
from pagedbench.config import ConfigError
from pagedbench.execution.costs.profile import Profile, read_profile
from pagedbench.execution.shapes import BUILT_IN_SHAPES

PROFILE = Profile("opt-125m", BUILT_IN_SHAPES["opt-125m"], "float32", "native", "A CPU", TRUE)


def test_it_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(PROFILE.document()))
    assert read_profile(path) == PROFILE
    assert PROFILE.costs("paged").context == 1.5e-6
    assert PROFILE.costs("contiguous").context == 1.2e-6


def test_other_costs_are_another_source():
    source = PROFILE.costs("paged").source
    assert source == PROFILE.costs("contiguous").source
    slower = replace(PROFILE, fitted=replace(TRUE, step=1e-3))
    assert slower.costs("paged").source != source


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
