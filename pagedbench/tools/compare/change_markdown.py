"""What changed between saved runs, for a pull request: the verdict, what regressed, the rest folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.runs.numbers import counted
from pagedbench.show.table import escaped, markdown_table
from pagedbench.tools.compare.changes import (
    changed_lines,
    findings_table,
    gate_lines,
    headline,
    notes,
    refusal_lines,
    tables_of,
    verdict_word,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items

    from pagedbench.tools.compare.comparison import Comparison

NUM_NAMED = 6
"""Most metrics whose detectable change is stated; those of a longer gate are in its list."""


def changes_markdown(comparison: Comparison) -> str:
    """The whole text."""
    lines = [f"### pagedbench compare: {verdict_word(comparison).upper()}", ""]
    if not comparison.is_comparable:
        first, *others = refusal_lines(comparison)
        lines += [escaped(first), "", *(f"- {escaped(line.strip())}" for line in others)]
        return "\n".join(lines) + "\n"
    lines.append(f"**{escaped(headline(comparison))}**")
    lines += _regressed(comparison)
    power = _power(comparison)
    remarks = [*([power] if power else []), *comparison.remarks]
    if remarks:
        lines += ["", *(f"- {escaped(remark)}" for remark in remarks)]
    lines += _folded("What the gate says", _listed(gate_lines(comparison)))
    for title, findings in tables_of(comparison):
        lines += _folded(title, [markdown_table(findings_table(findings)).rstrip()])
    changed = [line for contrast in comparison.contrasts for line in changed_lines(contrast.changed)]
    lines += _folded("What differs between the runs", _listed(changed))
    lines += _folded("How to read this", notes(comparison))
    return "\n".join(lines) + "\n"


def _regressed(comparison: Comparison) -> list[str]:
    """The table of the findings that failed the gate, the worst first."""
    failures = sorted(comparison.failures, key=lambda result: -result.finding.harm)
    if not failures:
        return []
    findings = [result.finding for result in failures]
    places = [": ".join(part for part in (item.candidate, item.group) if part) for item in findings]
    is_one_place = len(set(places)) == 1
    return ["", markdown_table(findings_table(findings, () if is_one_place else places)).rstrip()]


def _power(comparison: Comparison) -> str:
    """Which changes the gate would have caught, so that "passed" is not mistaken for "the same"."""
    seen: dict[str, float] = {}
    for result in comparison.results:
        if result.detectable is not None:
            name = result.finding.metric.name
            seen[name] = max(seen.get(name, 0.0), result.detectable)
    if not seen:
        return ""
    named = [f"{name} {100 * change:.2g} %" for name, change in list(seen.items())[:NUM_NAMED]]
    if len(seen) > NUM_NAMED:
        named.append(f"{counted(len(seen) - NUM_NAMED, 'other')} below")
    return f"Smallest change for the worse that would be caught in 9 of 10 tries: {', '.join(named)}."


def _listed(lines: Iterable[str]) -> list[str]:
    return [f"- {escaped(line)}" for line in lines]


def _folded(title: str, lines: Items[str]) -> list[str]:
    """Lines folded under a title; empty without lines. Markdown in HTML needs empty lines around it."""
    if not lines:
        return []
    return ["", f"<details><summary>{escaped(title)}</summary>", "", *lines, "", "</details>"]
