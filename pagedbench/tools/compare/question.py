"""Question: which metrics to compare, which of them are gated, and which changes matter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.metrics.formulas import find_metric
from pagedbench.metrics.statistics import RELEVANCE
from pagedbench.runs.pairing import parse_across
from pagedbench.runs.values import parse_share
from pagedbench.tools.compare.comparison import compare_sides
from pagedbench.tools.compare.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.tools.compare.comparison import Comparison, Side

THRESHOLD = 0.05

DEFAULT = "default"
DEFAULT_METRICS = ("output_throughput", "ttft_p50_ms", "ttft_mean_ms", "tpot_p50_ms",
                   "normalized_latency_mean_s", "e2el_mean_s")  # fmt: skip
"""The metrics of `--gate default`: throughput, the beginning and the rest of a reply, and the whole of it.
Means show it if a few requests wait. `request_throughput` is left out, as it moves with the tokens."""


@dataclass(frozen=True, slots=True)
class Question:
    """The arguments of `compare_sides`."""

    threshold: float
    relevance: float
    gate: Gate | None
    metrics: tuple[str, ...] | None
    across: tuple[str, ...]

    def compare(self, sides: Items[Side]) -> Comparison:
        """Compare the first side with each of the others."""
        return compare_sides(
            sides[0],
            sides[1:],
            threshold=self.threshold,
            relevance=self.relevance,
            gate=self.gate,
            metrics=self.metrics,
            across=self.across,
        )


def parse_question(
    metric: str | None,
    gate: str | None,
    threshold: str | None,
    relevance: str | None,
    across: str | None,
    *,
    gate_single_pair: bool,
) -> Question:
    """Read the options of `compare` as typed.

    Raises:
        ConfigError: one of them is wrong.
    """
    if gate is None and gate_single_pair:
        raise ConfigError("--gate-single-pair has no effect without --gate")
    limit = THRESHOLD if threshold is None else parse_threshold(threshold)
    return Question(
        limit,
        RELEVANCE if relevance is None else parse_relevance(relevance, limit),
        None if gate is None else parse_gate(gate, limit, takes_single_pairs=gate_single_pair),
        None if metric is None else _parse_metrics(metric),
        parse_across(across),
    )


def parse_gate(text: str, threshold: float, *, takes_single_pairs: bool) -> Gate:
    """The gate of `--gate`: metrics separated by commas or spaces; DEFAULT is a set of them.

    Raises:
        ConfigError: a metric is unknown, or neither of its directions is better.
    """
    names = _words(text)
    if not names:
        raise ConfigError("--gate names no metric: write it like --gate default, or --gate tpot,ttft")
    metrics = [
        find_metric(each) for name in names for each in (DEFAULT_METRICS if name == DEFAULT else (name,))
    ]
    for metric in metrics:
        if metric.better == "-":
            raise ConfigError(f"--gate cannot judge {metric.name}: neither more nor less of it is better")
    return Gate(tuple(dict.fromkeys(metric.name for metric in metrics)), threshold, takes_single_pairs)


def _parse_metrics(text: str) -> tuple[str, ...]:
    names = _words(text)
    if not names:
        raise ConfigError("--metric names no metric: write it like --metric ttft_p50_ms,tpot_p50_ms")
    return tuple(find_metric(name).name for name in names)


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]


def parse_threshold(text: str) -> float:
    """A relative change above 0 and below 1, from "5%" or "0.05".

    Raises:
        ConfigError: it is another text.
    """
    change = parse_share(text)
    if not 0 < change < 1:
        raise ConfigError(f"--threshold is a change such as 5% or 0.05, not {text!r}")
    return change


def parse_relevance(text: str, threshold: float) -> float:
    """A relative change below the threshold, from "0.1%" or "0.001".

    Raises:
        ConfigError: it is another text.
    """
    change = parse_share(text)
    if not 0 <= change < threshold:
        limit = f"below --threshold ({100 * threshold:g} %)"
        raise ConfigError(f"--relevance is a change such as 0.1% or 0, {limit}, not {text!r}")
    return change
