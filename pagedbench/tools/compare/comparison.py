"""Comparison: sides of saved runs, every finding between them, and what the gate says of it all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.metrics.formulas import METRICS
from pagedbench.metrics.statistics import ALPHA, GATED_ALPHA, RELEVANCE, SHOWN_ALPHA
from pagedbench.runs.numbers import counted
from pagedbench.runs.pairing import changed_options, pair_runs
from pagedbench.show.judgement import Outcome
from pagedbench.show.remarks import bandwidth_sentences
from pagedbench.tools.compare.gate import evaluate
from pagedbench.tools.compare.single_pair import section_bounds
from pagedbench.tools.compare.verdicts import judge, measure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items

    from pagedbench.metrics.formulas import Metric
    from pagedbench.runs.pairing import Difference, Group, Pairing
    from pagedbench.runs.saved import SavedRun
    from pagedbench.tools.compare.gate import Gate, GateResult
    from pagedbench.tools.compare.verdicts import Finding

SHOWN = (
    "request_throughput",
    "output_throughput",
    "normalized_latency_mean_s",
    "ttft_p50_ms",
    "ttft_p99_ms",
    "tpot_p50_ms",
    "itl_p99_ms",
    "e2el_mean_s",
    "queue_time_mean_ms",
    "running_mean",
    "kv_token_states_pct",
)
"""Metrics that are looked at unless others are asked for. Few, because each one costs the others power;
where runs are exact all others are looked at too."""

VERDICTS_OF_A_RUN = ("overloaded", "valid")
"""Metrics that are no figures."""


@dataclass(frozen=True, slots=True)
class Side:
    """Saved runs under one name."""

    label: str
    runs: tuple[SavedRun, ...]


@dataclass(frozen=True, slots=True)
class Contrast:
    """The reference and one candidate."""

    candidate: str
    pairing: Pairing
    changed: tuple[Difference, ...]  # options, versions, commits

    @property
    def is_comparable(self) -> bool:
        return bool(self.pairing.groups) and not self.pairing.differences


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that was found between a reference and its candidates.

    Attributes:
        threshold: the relative change that matters.
        relevance: the relative change below which two figures are the same.
        shown: metrics that are listed even where they did not change.
        findings: of every candidate, group and metric; empty if something may not be compared.
        gate: what was asked, if anything.
        results: what the gate says.
        remarks: sentences that keep a reader from the wrong conclusion.
    """

    reference: str
    contrasts: tuple[Contrast, ...]
    threshold: float
    relevance: float
    shown: tuple[str, ...]
    findings: tuple[Finding, ...]
    gate: Gate | None
    results: tuple[GateResult, ...]
    remarks: tuple[str, ...]

    @property
    def is_comparable(self) -> bool:
        return all(contrast.is_comparable for contrast in self.contrasts)

    @property
    def failures(self) -> tuple[GateResult, ...]:
        return tuple(result for result in self.results if result.outcome is Outcome.FAILED)


def compare_sides(
    reference: Side,
    candidates: Items[Side],
    *,
    threshold: float,
    relevance: float = RELEVANCE,
    gate: Gate | None = None,
    metrics: Items[str] | None = None,
    across: Items[str] = (),
) -> Comparison:
    """Compare every candidate with the reference. Runs that did not end are left out, and named.

    `metrics`: to look at, besides the gate's; None: SHOWN, and every metric where the runs are exact.
    """
    contrasts = [_contrast(reference, candidate, across) for candidate in candidates]
    is_comparable = all(contrast.is_comparable for contrast in contrasts)
    gated = () if gate is None else gate.metrics
    shown = SHOWN if metrics is None else tuple(metrics)
    wanted = [metric for metric in METRICS if metric.name in (*shown, *gated)]
    exact = METRICS if metrics is None else wanted  # nothing is lost by looking at more of them
    found = [
        finding for contrast in contrasts for finding in _findings(contrast, wanted, exact) if is_comparable
    ]
    alphas = {True: GATED_ALPHA, False: SHOWN_ALPHA} if gated else {False: ALPHA}
    judged = {  # two families, so that what is only shown takes little power from what is gated
        id(old): new
        for is_gated, alpha in alphas.items()
        for family in [[item for item in found if (item.metric.name in gated) == is_gated]]
        for old, new in zip(family, judge(family, threshold, alpha, relevance=relevance), strict=True)
    }
    findings = tuple(judged[id(finding)] for finding in found)
    return Comparison(
        reference=reference.label,
        contrasts=tuple(contrasts),
        threshold=threshold,
        relevance=relevance,
        shown=shown,
        findings=findings,
        gate=gate,
        results=() if gate is None else tuple(evaluate(gate, findings, relevance)),
        remarks=tuple(_remarks((reference, *candidates), contrasts)),
    )


def _contrast(reference: Side, candidate: Side, across: Items[str]) -> Contrast:
    pairing = pair_runs(_complete(reference), _complete(candidate), across)
    return Contrast(candidate.label, pairing, tuple(changed_options(pairing.groups)))


def _complete(side: Side) -> list[SavedRun]:
    return [run for run in side.runs if run.is_complete]


def _findings(contrast: Contrast, wanted: Items[Metric], exact: Items[Metric]) -> Iterable[Finding]:
    for group in contrast.pairing.groups:
        for metric in exact if group.is_exact else wanted:
            if metric.name not in VERDICTS_OF_A_RUN:
                yield measure(metric, group, contrast.candidate, _bounds_of_single(metric, group))


def _bounds_of_single(metric: Metric, group: Group) -> tuple[float, float] | None:
    if group.is_exact or len(group.pairs) > 1:
        return None
    return section_bounds(metric, group.pairs[0])


def _remarks(sides: Items[Side], contrasts: Items[Contrast]) -> Iterable[str]:
    for side in sides:
        unfinished = [run for run in side.runs if not run.is_complete]
        if unfinished:
            yield f"{side.label}: {counted(len(unfinished), 'run')} did not end, and is not compared."
        for verdict, is_bad in (("invalid", False), ("overloaded", True)):
            name = "valid" if verdict == "invalid" else verdict
            bad = [run for run in _complete(side) if run.values[name] is is_bad]
            if bad:
                yield f"{side.label}: {len(bad)} of {counted(len(side.runs), 'run')} {verdict}."
        busy = [run for run in _complete(side) if run.is_busy]
        if busy:
            yield (
                f"{side.label}: this machine was busy with other programs during {len(busy)} of "
                f"{counted(len(side.runs), 'run')}; their times say little."
            )
    yield from bandwidth_sentences(run.bandwidths for side in sides for run in _complete(side))
    for contrast in contrasts:
        alone = contrast.pairing.unpaired
        if alone and contrast.pairing.groups:
            yield (
                f"{counted(len(alone), 'run')} without a partner of the same requests: {', '.join(alone)}."
            )
