"""What changed between saved runs, for people: the verdict first, then one table per workload."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import MINIMUM_FOR_P99, counted
from pagedbench.show.console import say
from pagedbench.show.judgement import Outcome
from pagedbench.show.table import Cell, Column, Table, print_table
from pagedbench.tools.compare.verdicts import Basis, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items

    from rich.console import Console

    from pagedbench.runs.pairing import Difference
    from pagedbench.tools.compare.comparison import Comparison
    from pagedbench.tools.compare.verdicts import Finding

STYLES = {
    Verdict.BETTER: "green",
    Verdict.WORSE: "bold red",
    Verdict.CHANGED: "yellow",
    Verdict.INCONCLUSIVE: "dim",
    Verdict.SAME: "dim",
}
SIGNS = {Verdict.NO_CHANGE: "~", Verdict.EQUAL: "="}
MOVED = (Verdict.BETTER, Verdict.WORSE, Verdict.CHANGED)

UNITS_IN_NAMES = ("_s", "_ms", "_pct")

LEGEND = (
    "change: geometric mean of candidate / reference, with its 95 % t-interval over pairs of runs; agree: "
    "pairs that moved the same way. ~: no detectable change, and a relevant one is unlikely; ?: undecided. "
    "Verdicts are corrected for the number of metrics (Holm), so they are stricter than single intervals."
)
EXACT_LEGEND = "Virtual time: runs repeat exactly, so every difference was caused by a change."
SAME_LEGEND = "same: a change of less than {0:g} %, too small to be called better or worse."
SINGLE_LEGEND = (
    "One pair of runs: intervals are from five sections of it and say little about how much runs vary."
)


def print_changes(console: Console, comparison: Comparison) -> None:
    """Everything."""
    if not comparison.is_comparable:
        for line in refusal_lines(comparison):
            say(console, line)
        return
    say(console, headline(comparison), "bold red" if comparison.failures else "bold")
    for contrast in comparison.contrasts:
        for line in changed_lines(contrast.changed):
            say(console, f"  {line}", "dim")
    for title, findings in tables_of(comparison):
        console.print()
        print_table(console, findings_table(findings), title)
    for line in notes(comparison):
        say(console, line, "dim")
    for line in [*gate_lines(comparison), *comparison.remarks]:
        say(console, line)


def verdict_word(comparison: Comparison) -> str:
    """ "regression", "passed", "not judged"; "compared" without a gate; or "not comparable"."""
    if not comparison.is_comparable:
        return "not comparable"
    if comparison.gate is None:
        return "compared"
    if comparison.failures:
        return "regression"
    return "passed" if any(item.outcome is Outcome.PASSED for item in comparison.results) else "not judged"


def headline(comparison: Comparison) -> str:
    """The verdict in one sentence."""
    if comparison.gate is not None:
        if comparison.failures:
            worst = max(comparison.failures, key=lambda result: result.finding.harm)
            return (
                f"Gate failed: {counted(len(comparison.failures), 'regression')}, the worst in "
                f"{worst.finding.metric.name}, {worst.reason}."
            )
        judged = sum(result.outcome is Outcome.PASSED for result in comparison.results)
        if not judged:
            return "The gate judged nothing: none of its figures can be judged; the reasons are below."
        return f"Gate passed: {judged} of {counted(len(comparison.results), 'gated figure')} judged."
    verdicts = [finding.verdict for finding in comparison.findings]
    notable = [verdict for verdict in (*MOVED, Verdict.INCONCLUSIVE) if verdict in verdicts]
    parts = [f"{verdicts.count(verdict)} {verdict.value}" for verdict in notable]
    if parts:
        return f"{', '.join(parts).capitalize()}."
    is_equal = Verdict.SAME not in verdicts
    return "No change." if is_equal else f"No change of {100 * comparison.relevance:g} % or more."


def refusal_lines(comparison: Comparison) -> list[str]:
    """Why nothing was compared."""
    lines = []
    for contrast in comparison.contrasts:
        if contrast.is_comparable:
            continue
        lines.append(f"{comparison.reference} and {contrast.candidate} cannot be compared:")
        for item in contrast.pairing.differences:
            lines.append(f"  {item.key}: {item.reference} | {item.candidate}")
        if not contrast.pairing.differences:
            lines.append("  no complete run of one has a partner with the same requests in the other")
        elif contrast.pairing.groups:
            keys = dict.fromkeys(item.key for item in contrast.pairing.differences)
            lines.append(f"  to compare them anyway: --across {','.join(keys)}")
    return [*lines, *comparison.remarks]


def changed_lines(changed: Iterable[Difference]) -> list[str]:
    """The differences between the runs other than their results."""
    return [f"{item.key}: {item.reference} → {item.candidate}" for item in changed]


def tables_of(comparison: Comparison) -> list[tuple[str, list[Finding]]]:
    """Titles, and the findings to list under them: those asked for, and others that changed."""
    gated = () if comparison.gate is None else comparison.gate.metrics
    tables: dict[tuple[str, str], list[Finding]] = {}
    for finding in comparison.findings:
        is_wanted = finding.metric.name in (*comparison.shown, *gated)
        is_notable = finding.verdict in MOVED
        if finding.effect is not None and (is_wanted or is_notable):
            tables.setdefault((finding.candidate, finding.group), []).append(finding)
    return [
        (_title(comparison, candidate, group, findings), findings)
        for (candidate, group), findings in tables.items()
    ]


def _title(comparison: Comparison, candidate: str, group: str, findings: list[Finding]) -> str:
    effect = findings[0].effect
    pairs = counted(0 if effect is None else effect.count, "pair")
    name = f"{comparison.reference} → {candidate}"
    return f"{name}: {group} ({pairs})" if group else f"{name} ({pairs})"


def findings_table(findings: Items[Finding], places: Items[str] = ()) -> Table:
    """One row per metric. `places`: where each was found, if they differ."""
    columns = (
        *([Column("where", is_key=True, is_text=True)] if places else []),
        Column("metric", is_key=True, is_text=True),
        *map(Column, ("reference", "candidate", "change", "95 % interval", "agree")),
        Column("verdict", is_text=True),
    )
    rows: list[list[object]] = []
    for index, finding in enumerate(findings):
        is_thin = "_p99_" in finding.metric.name and finding.num_requests < MINIMUM_FOR_P99
        cells = [Cell(value, style="dim" if is_thin else "") for value in cells_of(finding)]
        style = "dim" if is_thin else STYLES.get(finding.verdict, "")
        rows.append([*places[index : index + 1], *cells, Cell(_verdict(finding), style=style)])
    return Table(columns, rows)


def cells_of(finding: Finding) -> list[object]:
    """Metric, both values, the change, its interval, and agreement."""
    effect, metric = finding.effect, finding.metric
    assert effect is not None, "undefined findings are not listed"
    has_unit = not metric.unit or metric.name.endswith(UNITS_IN_NAMES)
    return [
        metric.name if has_unit else f"{metric.name} {metric.unit}",
        finding.reference_value,
        finding.candidate_value,
        _change(effect.mean, is_ratio=effect.is_ratio),
        _interval(finding),
        f"{effect.num_agreeing}/{effect.count}",
    ]


def _change(change: float, *, is_ratio: bool) -> str:
    if is_ratio:
        ratio = math.exp(min(change, 700.0))
        return f"{ratio:.4f}x" if 0.9 < ratio < 1.1 else f"{ratio:.4g}x"
    return f"{100 * change:+.3g} %" if math.isfinite(change) else "from 0"


def _interval(finding: Finding) -> str:
    bounds, effect = finding.bounds, finding.effect
    if bounds is None or effect is None or not all(map(math.isfinite, bounds)):
        return "exact" if finding.basis is Basis.EXACT else "-"
    ends = [_change(bound, is_ratio=effect.is_ratio) for bound in bounds]
    return f"{ends[0]} to {ends[1]}"


def _verdict(finding: Finding) -> str:
    """The sign or the word for the verdict, and how many pairs would settle an undecided one."""
    mark = ", one pair" if finding.basis is Basis.SINGLE else ""
    if finding.verdict is not Verdict.INCONCLUSIVE:
        return f"{SIGNS.get(finding.verdict, finding.verdict.value)}{mark}"
    if finding.repeats is None:
        return f"? more than 1,000 pairs needed{mark}"
    return f"? {finding.repeats} pairs needed{mark}"


def notes(comparison: Comparison) -> list[str]:
    """How to read the tables."""
    bases = {finding.basis for finding in comparison.findings}
    legends = {Basis.PAIRS: LEGEND, Basis.EXACT: EXACT_LEGEND, Basis.SINGLE: SINGLE_LEGEND}
    lines = [text for basis, text in legends.items() if basis in bases]
    if bases == {Basis.PAIRS, Basis.EXACT}:  # counters are exact even in wall time
        lines = [LEGEND]
    if any(finding.verdict is Verdict.SAME for finding in comparison.findings):
        lines.append(SAME_LEGEND.format(100 * comparison.relevance))
    return lines


def gate_lines(comparison: Comparison) -> list[str]:
    """The gate's outcome for every figure, and the change that it would have caught."""
    lines = []
    has_several = len(comparison.contrasts) > 1
    for result in comparison.results:
        finding = result.finding
        parts = (finding.candidate if has_several else "", finding.group)
        place = f" ({': '.join(filter(None, parts))})" if any(parts) else ""
        line = f"gate {result.outcome.value}: {finding.metric.name}{place}: {result.reason}"
        if result.detectable is not None:
            line += f"; a change of {100 * result.detectable:.2g} % would be caught in 9 of 10 tries"
        lines.append(line)
    return lines
