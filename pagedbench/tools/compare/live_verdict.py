"""How rounds of live runs are judged: the first, and the fresh one that confirms a suspicion."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.runs.options import CommandOptions
    from pagedbench.tools.compare.comparison import Comparison, Side
    from pagedbench.tools.compare.gate import Gate
    from pagedbench.tools.compare.rounds import Arm, Rounds
    from pagedbench.tools.compare.saved_runs import Question

FIRST, FRESH = "first", "fresh"
"""The rounds, as their folders are called."""


@dataclass(frozen=True, slots=True)
class Judge:
    """How the runs of a round are compared; of `compare_sides`."""

    threshold: float
    relevance: float
    gate: Gate | None
    metrics: tuple[str, ...] | None
    across: tuple[str, ...]

    def compare(self, sides: Items[Side]) -> Comparison:
        from pagedbench.tools.compare.comparison import compare_sides

        return compare_sides(
            sides[0],
            sides[1:],
            threshold=self.threshold,
            relevance=self.relevance,
            gate=self.gate,
            metrics=self.metrics,
            across=self.across,
        )


def judge_of(question: Question) -> Judge:
    """What was asked.

    Raises:
        ConfigError: a metric, the threshold, the relevance or what may differ is not known.
    """
    from pagedbench.runs.pairing import parse_across
    from pagedbench.tools.compare.gate import parse_relevance, parse_threshold
    from pagedbench.tools.compare.saved_runs import (
        DEFAULT_RELEVANCE,
        DEFAULT_THRESHOLD,
        gate_of,
        metrics_of,
    )

    threshold = parse_threshold(question.threshold or DEFAULT_THRESHOLD)
    return Judge(
        threshold,
        parse_relevance(question.relevance or DEFAULT_RELEVANCE, threshold),
        gate_of(question, threshold),
        metrics_of(question.metric),
        parse_across(question.across),
    )


def confirmed(
    comparison: Comparison,
    sides: list[Side],
    rounds: Rounds,
    arms: Items[Arm],
    judge: Judge,
    given: CommandOptions,
    folder: Path,
) -> tuple[list[Side], Comparison]:
    """What decides: the first round, or if it raises a suspicion, as many fresh runs, alone."""
    from pagedbench.tools.compare.interleaved import concluded, is_suspicion, narrowed

    assert judge.gate is not None
    if not is_suspicion(comparison):
        return sides, comparison
    _report_suspicion(comparison, given, folder / FIRST)
    suspects = {result.finding.candidate for result in comparison.failures}
    fresh = rounds.make(FRESH, [arms[0], *(arm for arm in arms[1:] if arm.label in suspects)])
    again = replace(judge, gate=narrowed(judge.gate, comparison)).compare(fresh)
    return fresh, concluded(comparison, again)


def _report_suspicion(comparison: Comparison, given: CommandOptions, folder: Path) -> None:
    """Save the first round beside its runs, and show it to people; a program gets the verdict alone."""
    from pagedbench.runs.files import write_texts
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.tools.compare.change_documents import changes_document
    from pagedbench.tools.compare.changes import headline, print_changes
    from pagedbench.tools.compare.saved_runs import REPORTS

    if given.format == "rich":
        print_changes(stdout_console(COMPARE_WIDTH), comparison)
    texts = {name: changes_document(comparison, kind) for name, kind in REPORTS.items()}
    write_texts(texts, folder, force=True)
    print(f"Suspected, and to be confirmed by as many fresh runs: {headline(comparison)}", file=sys.stderr)
