"""What the options of a comparison mean, and which of them are refused."""

from __future__ import annotations

import pytest

from pagedbench.config import ConfigError
from pagedbench.metrics.formulas import find_metric
from pagedbench.tools.compare.gate import Gate
from pagedbench.tools.compare.question import (
    DEFAULT_METRICS,
    Question,
    parse_gate,
    parse_question,
    parse_relevance,
    parse_threshold,
)


def test_defaults() -> None:
    question = parse_question(None, None, None, None, None, gate_single_pair=False)
    assert question == Question(threshold=0.05, relevance=0.001, gate=None, metrics=None, across=())


def test_every_option_arrives() -> None:
    question = parse_question("tpot e2el", "ttft", "10%", "1%", "pool,device", gate_single_pair=True)
    assert question == Question(
        threshold=0.1,
        relevance=0.01,
        gate=Gate(("ttft_p50_ms",), 0.1, takes_single_pairs=True),
        metrics=("tpot_p50_ms", "e2el_p50_s"),
        across=("pool", "device"),
    )


def test_a_single_pair_needs_a_gate() -> None:
    with pytest.raises(ConfigError, match="--gate-single-pair has no effect without --gate"):
        parse_question(None, None, None, None, None, gate_single_pair=True)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("tpot_p50_ms", "tpot_p50_ms"),
        ("tpot_p99", "tpot_p99_ms"),
        ("tpot", "tpot_p50_ms"),
        ("normalized_latency", "normalized_latency_mean_s"),
        ("goodput", "goodput"),
    ],
)
def test_metrics_have_short_names(name: str, column: str) -> None:
    assert find_metric(name).name == column


def test_gates_that_cannot_be() -> None:
    for text, words in (
        ("tpots", "did you mean"),
        ("running_mean", "neither more nor less"),
        (" , ", "names no metric"),
    ):
        with pytest.raises(ConfigError, match=words):
            parse_gate(text, 0.05, takes_single_pairs=False)
    assert parse_gate("tpot, ttft", 0.05, takes_single_pairs=False).metrics == (
        "tpot_p50_ms",
        "ttft_p50_ms",
    )


@pytest.mark.parametrize(
    ("text", "metrics"),
    [
        ("default", DEFAULT_METRICS),
        ("default,itl_p99", (*DEFAULT_METRICS, "itl_p99_ms")),
        ("tpot default", ("tpot_p50_ms", *(name for name in DEFAULT_METRICS if name != "tpot_p50_ms"))),
    ],
)
def test_default_is_a_set_of_metrics(text: str, metrics: tuple[str, ...]) -> None:
    assert parse_gate(text, 0.05, takes_single_pairs=False).metrics == metrics


def test_relevance_is_below_the_threshold() -> None:
    assert parse_relevance("0.1%", 0.05) == parse_relevance("0.001", 0.05) == 0.001
    assert parse_relevance("0", 0.05) == 0
    for text in ("5%", "6%", "-1%", "little", ""):
        with pytest.raises(ConfigError, match=r"--relevance is a change such as 0.1% or 0, below --thres"):
            parse_relevance(text, 0.05)


def test_thresholds() -> None:
    assert parse_threshold("5%") == parse_threshold("0.05") == parse_threshold(" 5 % ") == 0.05
    for text in ("5", "0", "-1%", "five", "100%", ""):
        with pytest.raises(ConfigError, match="--threshold"):
            parse_threshold(text)
