"""Comparison: the findings between a reference and its candidates, and the results of a gate."""

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
    from pagedbench.runs.pairing import Difference, Pairing
    from pagedbench.runs.saved import SavedRun
    from pagedbench.tools.compare.gate import Gate, GateResult
    from pagedbench.tools.compare.verdicts import Finding

SHOWN = ("request_throughput", "output_throughput", "normalized_latency_mean_s", "ttft_p50_ms",
         "ttft_p99_ms", "tpot_p50_ms", "itl_p99_ms", "e2el_mean_s", "queue_time_mean_ms", "running_mean",
         "kv_token_states_pct")  # fmt: skip
"""Metrics that are compared unless others are asked for. They are few, because each additional metric costs
power; if runs are exact, all metrics are compared."""

VERDICTS_OF_A_RUN = ("overloaded", "valid")
"""Yes-or-no metrics, which remarks report."""


@dataclass(frozen=True, slots=True)
class Side:
    """Saved runs under one name."""

    label: str
    runs: tuple[SavedRun, ...]

    @property
    def complete(self) -> list[SavedRun]:
        return [run for run in self.runs if run.is_complete]


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
    """All findings between a reference and its candidates.

    Attributes:
        threshold: the relative change that matters.
        relevance: the relative change below which two figures count as the same.
        shown: metrics that are listed even if they did not change.
        findings: one for every candidate, group and metric; empty if the runs must not be compared.
        results: the results of the gate.
        remarks: sentences that prevent wrong conclusions.
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
    """Compare every candidate with the reference. Runs that did not end are left out, with a remark.

    `metrics`: metrics to compare besides the gate's; None: SHOWN, and every metric if runs are exact.
    """
    contrasts = [_contrast(reference, candidate, across) for candidate in candidates]
    is_comparable = all(contrast.is_comparable for contrast in contrasts)
    gated = () if gate is None else gate.metrics
    shown = SHOWN if metrics is None else tuple(metrics)
    wanted = [metric for metric in METRICS if metric.name in (*shown, *gated)]
    exact = METRICS if metrics is None else wanted  # more exact metrics cost no power
    found = [
        finding for contrast in contrasts for finding in _findings(contrast, wanted, exact) if is_comparable
    ]
    # Two families, so that metrics that are only shown cost the gated ones little power.
    alphas = {True: GATED_ALPHA, False: SHOWN_ALPHA} if gated else {False: ALPHA}
    families = {
        is_gated: [item for item in found if (item.metric.name in gated) == is_gated] for is_gated in alphas
    }
    judged = {
        is_gated: iter(judge(family, threshold, alphas[is_gated], relevance=relevance))
        for is_gated, family in families.items()
    }
    findings = tuple(next(judged[item.metric.name in gated]) for item in found)
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
    pairing = pair_runs(reference.complete, candidate.complete, across)
    return Contrast(candidate.label, pairing, tuple(changed_options(pairing.groups)))


def _findings(contrast: Contrast, wanted: Items[Metric], exact: Items[Metric]) -> Iterable[Finding]:
    for group in contrast.pairing.groups:
        is_single = len(group.pairs) == 1 and not group.is_exact
        for metric in exact if group.is_exact else wanted:
            if metric.name not in VERDICTS_OF_A_RUN:
                bounds = section_bounds(metric, group.pairs[0]) if is_single else None
                yield measure(metric, group, contrast.candidate, bounds)


def _remarks(sides: Items[Side], contrasts: Items[Contrast]) -> Iterable[str]:
    for side in sides:
        complete, total = side.complete, counted(len(side.runs), "run")
        unfinished = len(side.runs) - len(complete)
        if unfinished:
            yield f"{side.label}: {counted(unfinished, 'run')} did not end: not compared."
        for name, bad, word in (("valid", False, "invalid"), ("overloaded", True, "overloaded")):
            count = sum(run.values[name] is bad for run in complete)
            if count:
                yield f"{side.label}: {count} of {total} {word}."
        busy = sum(run.is_busy for run in complete)
        if busy:
            yield (
                f"{side.label}: this machine was busy with other programs during {busy} of {total}; "
                "their times say little."
            )
    yield from bandwidth_sentences(run.bandwidths for side in sides for run in side.complete)
    for contrast in contrasts:
        alone = contrast.pairing.unpaired
        if alone and contrast.pairing.groups:
            yield (
                f"{counted(len(alone), 'run')} without a partner of the same requests: {', '.join(alone)}."
            )
