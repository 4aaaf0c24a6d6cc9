from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedbench.config import FIELDS
from pagedbench.metrics.slo import BOUNDED, PRESETS, parse_slo


def test_units() -> None:
    slo = parse_slo(" ttft:500ms tpot:0.05s,normalized_latency:0.2s  itl:1e2ms e2el:10s ")
    assert dict(slo.bounds) == pytest.approx(
        {"ttft": 0.5, "tpot": 0.05, "normalized_latency": 0.2, "itl": 0.1, "e2el": 10.0}
    )


def test_presets_are_the_values_of_distserve() -> None:
    bounds = {name: dict(parse_slo(name).bounds) for name in PRESETS}
    assert bounds == {
        "chat": {"ttft": 0.25, "tpot": 0.1},
        "chat-66b": {"ttft": 0.4, "tpot": 0.1},
        "chat-175b": {"ttft": 4.0, "tpot": 0.2},
        "code": {"ttft": 0.125, "tpot": 0.2},
        "summarize": {"ttft": 15.0, "tpot": 0.15},
    }


def test_the_help_names_every_preset() -> None:
    help = FIELDS["slo"].metadata["help"]
    assert all(f"{name}," in help or f"{name}." in help for name in PRESETS)


def test_a_preset_stands_for_its_bounds_and_names_its_source() -> None:
    slo = parse_slo("chat-66b e2el:1500ms")
    assert str(slo) == "ttft:400ms tpot:100ms e2el:1.5s"
    (source,) = slo.sources
    assert source.startswith("chat-66b: DistServe")
    assert parse_slo(str(slo)).bounds == slo.bounds
    assert parse_slo("ttft:1s").sources == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("chat ttft:1s", "twice"),
        ("chap", "chat-66b"),
        ("", "ttft:500ms"),
        ("ttft", "'ttft'"),
        ("latency:5s", "normalized_latency"),
        ("ttft:500", "in ms or s"),
        ("ttft:0ms", "above 0"),
        ("ttft:-1s", "above 0"),
        ("ttft:1e999s", "above 0"),
        ("ttft:e-s", "above 0"),
        ("ttft:5min", "in ms or s"),
        ("ttft:5s ttft:6s", "twice"),
    ],
)
def test_mistakes_are_one_sentence(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        parse_slo(text)
    assert part in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        slo = parse_slo(text)
    except ValueError:
        return
    assert {name for name, _ in slo.bounds} <= set(BOUNDED)
