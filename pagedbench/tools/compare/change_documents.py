"""What changed between saved runs, as a document: JSON for programs, CSV, Markdown for a pull request."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pagedbench.runs.files import csv_text, json_text
from pagedbench.tools.compare.change_markdown import changes_markdown
from pagedbench.tools.compare.changes import verdict_word

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.runs.pairing import Difference
    from pagedbench.tools.compare.comparison import Comparison
    from pagedbench.tools.compare.verdicts import Finding

SCHEMA_VERSION = 1
"""The version of the JSON, whose fields compare/README.md describes. New fields do not change it."""


def changes_document(comparison: Comparison, kind: str) -> str:
    """`kind`: "json", "csv" (one row per finding) or "md" (the metrics asked for, and what changed)."""
    if kind == "json":
        return json_text(_json_object(comparison))
    return _csv(comparison) if kind == "csv" else changes_markdown(comparison)


def _json_object(comparison: Comparison) -> dict[str, object]:
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "comparison",
        "verdict": verdict_word(comparison),
        "reference": comparison.reference,
        "threshold": comparison.threshold,
        "relevance": comparison.relevance,
        "candidates": [
            {
                "candidate": contrast.candidate,
                "num_pairs": sum(len(group.pairs) for group in contrast.pairing.groups),
                "differences": _differences(contrast.pairing.differences),
                "changed": _differences(contrast.changed),
                "unpaired": list(contrast.pairing.unpaired),
            }
            for contrast in comparison.contrasts
        ],
        "findings": [_finding(finding) for finding in comparison.findings],
        "gate": [
            {
                "metric": result.finding.metric.name,
                "candidate": result.finding.candidate,
                "group": result.finding.group,
                "outcome": result.outcome.value,
                "reason": result.reason,
                "detectable_change": result.detectable,
            }
            for result in comparison.results
        ],
        "remarks": list(comparison.remarks),
    }


def _differences(items: Items[Difference]) -> list[dict[str, str]]:
    return [{"key": item.key, "reference": item.reference, "candidate": item.candidate} for item in items]


def _finding(finding: Finding) -> dict[str, object]:
    """A finding. Changes are relative: 0.05 is 5 % more. Undefined figures are null."""
    effect = finding.effect
    return {
        "metric": finding.metric.name,
        "unit": finding.metric.unit,
        "better": finding.metric.better,
        "candidate": finding.candidate,
        "group": finding.group,
        "reference_value": finding.reference_value,
        "candidate_value": finding.candidate_value,
        "change": None if effect is None else effect.relative,
        "interval_95": _relative(finding, finding.bounds),
        "adjusted_interval": _relative(finding, finding.bounds_adjusted),
        "adjusted_level": finding.level,
        "num_pairs": 0 if effect is None else effect.count,
        "num_agreeing": 0 if effect is None else effect.num_agreeing,
        "basis": finding.basis.value,
        "p_value": None if effect is None else finding.p_value,
        "verdict": finding.verdict.value,
        "pairs_needed": finding.repeats,
    }


def _relative(finding: Finding, bounds: tuple[float, float] | None) -> list[float] | None:
    effect = finding.effect
    if bounds is None or effect is None or not all(map(math.isfinite, bounds)):
        return None
    return [effect.as_relative(bound) for bound in bounds]


def _csv(comparison: Comparison) -> str:
    """One row per finding; an interval takes two columns."""
    rows = []
    for finding in map(_finding, comparison.findings):
        bounds: dict[str, object] = {}
        for name in ("interval_95", "adjusted_interval"):
            pair = finding.pop(name)
            low, high = pair if isinstance(pair, list) else ("", "")
            bounds |= {f"{name}_low": low, f"{name}_high": high}
        rows.append(finding | bounds)
    return csv_text(rows[0] if rows else (), rows)
