"""The gate: which metrics may not get worse, by how much, and whether one did."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.metrics.formulas import find_metric
from pagedbench.metrics.statistics import POWER, detectable, is_negligible
from pagedbench.runs.numbers import MINIMUM_FOR_P99, counted
from pagedbench.show.judgement import Outcome
from pagedbench.tools.compare.verdicts import Basis, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.tools.compare.verdicts import Finding

DEFAULT = "default"
DEFAULT_METRICS = (
    "output_throughput",
    "ttft_p50_ms",
    "ttft_mean_ms",
    "tpot_p50_ms",
    "normalized_latency_mean_s",
    "e2el_mean_s",
)
"""What `--gate default` stands for: throughput, both ends of a reply, and the whole of it. Means are there
for waiting that falls on a few requests; `request_throughput` would move with the tokens."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What is asked.

    Attributes:
        metrics: names of the metrics that may not get worse.
        threshold: the relative change from which on it matters.
        takes_single_pairs: one measured pair of runs is enough to fail.
    """

    metrics: tuple[str, ...]
    threshold: float
    takes_single_pairs: bool = False


@dataclass(frozen=True, slots=True)
class GateResult:
    """What the gate says of one finding.

    Attributes:
        reason: a part of a sentence.
        detectable: the relative change that would be caught with probability POWER; None if unknown.
    """

    finding: Finding
    outcome: Outcome
    reason: str
    detectable: float | None = None


def parse_gate(text: str, threshold: float, *, takes_single_pairs: bool) -> Gate:
    """The gate of `--gate`, metrics separated by commas or spaces; DEFAULT is a set of them.

    Raises:
        ConfigError: a metric is unknown, or neither direction of it is better.
    """
    names = [name for name in re.split(r"[,\s]+", text.strip()) if name]
    if not names:
        raise ConfigError("--gate names no metric: write it like --gate default, or --gate tpot,ttft")
    metrics = [
        find_metric(each) for name in names for each in (DEFAULT_METRICS if name == DEFAULT else (name,))
    ]
    for metric in metrics:
        if metric.better == "-":
            raise ConfigError(f"--gate cannot judge {metric.name}: neither more nor less of it is better")
    return Gate(tuple(dict.fromkeys(metric.name for metric in metrics)), threshold, takes_single_pairs)


def parse_threshold(text: str) -> float:
    """A relative change, from "5%" or "0.05".

    Raises:
        ConfigError: it is not a share above 0 and below 1.
    """
    share = _share(text)
    if not 0 < share < 1:
        raise ConfigError(f"--threshold is a change such as 5% or 0.05, not {text!r}")
    return share


def parse_relevance(text: str, threshold: float) -> float:
    """A relative change, from "0.1%" or "0.001".

    Raises:
        ConfigError: it is not a share, or not below the threshold.
    """
    share = _share(text)
    if not 0 <= share < threshold:
        raise ConfigError(
            f"--relevance is a change such as 0.1% or 0, below --threshold ({100 * threshold:g} %), "
            f"not {text!r}"
        )
    return share


def _share(text: str) -> float:
    """NaN if it is not a number or a percentage."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", text)
    return math.nan if match is None else float(match[1]) / (100 if match[2] else 1)


def evaluate(gate: Gate, findings: Iterable[Finding], relevance: float) -> list[GateResult]:
    """Judge every finding of a gated metric; one family, which `judge` has given its levels."""
    return [
        _result(gate, finding, relevance) for finding in findings if finding.metric.name in gate.metrics
    ]


def _result(gate: Gate, finding: Finding, relevance: float) -> GateResult:
    obstacle = obstacle_to(gate, finding)
    if obstacle is not None:
        return GateResult(finding, Outcome.NOT_JUDGED, obstacle)
    seen = detectable_harm(gate, finding)
    is_beyond = finding.harm > gate.threshold
    outcome = Outcome.FAILED if is_beyond and finding.is_significant else Outcome.PASSED
    reason = _reason(finding, gate.threshold, relevance, is_beyond=is_beyond)
    return GateResult(finding, outcome, reason, seen)


def _reason(finding: Finding, threshold: float, relevance: float, *, is_beyond: bool) -> str:
    if finding.verdict is Verdict.EQUAL:
        return "exactly equal"
    if is_negligible(finding.harm):
        return "no change on average"
    if is_negligible(finding.harm, relevance):
        return f"less than {100 * relevance:g} % on average: the same"
    if finding.harm < 0:
        chance = "" if finding.is_significant else ", which may be chance"
        return f"{_amount(finding.harm, 'better')}{chance}"
    limit = f"{100 * threshold:g} %"
    if not is_beyond:
        return f"{_amount(finding.harm, 'worse')}, not beyond {limit}"
    chance = "" if finding.is_significant else ", but may be chance: the interval holds zero"
    return f"{_amount(finding.harm, 'worse')}, beyond {limit}{chance}"


def _amount(harm: float, word: str) -> str:
    """A relative change in words; from zero it has no size."""
    percent = 100 * abs(harm)
    if not math.isfinite(percent):
        return f"{word} (up from 0)"
    return f"{percent:,.0f} % {word}" if percent >= 1000 else f"{percent:.3g} % {word}"


def obstacle_to(gate: Gate, finding: Finding) -> str | None:
    """Why a finding may not be gated; None if it may."""
    if finding.effect is None:
        return "it is not defined in every run"
    if "_p99_" in finding.metric.name and finding.num_requests < MINIMUM_FOR_P99:
        return f"a p99 of {finding.num_requests} requests; {MINIMUM_FOR_P99} are needed"
    if finding.num_busy:
        return f"other programs starved {counted(finding.num_busy, 'run')}; repeat on an idle machine"
    if finding.basis is Basis.NOTHING:
        return "a single pair has no interval for it; repeat the runs (run --repeats 5)"
    if finding.basis is Basis.SINGLE and not gate.takes_single_pairs:
        return "a single pair; repeat the runs (run --repeats 5), or allow it with --gate-single-pair"
    return None


def detectable_harm(gate: Gate, finding: Finding) -> float | None:
    """The relative change that this gate would catch with probability POWER, given the spread seen.

    Its mean must be beyond the threshold, and significant; both, POWER of the time. None without a spread.
    """
    effect = finding.effect
    if effect is None or finding.basis is not Basis.PAIRS or not math.isfinite(effect.deviation):
        return None
    beyond = effect.as_change(gate.threshold) + NormalDist().inv_cdf(POWER) * effect.error
    significant = detectable(effect.deviation, effect.count, level=finding.level)
    return effect.as_relative(max(beyond, significant))
