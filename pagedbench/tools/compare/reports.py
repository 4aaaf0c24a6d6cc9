"""Shows, saves and announces a comparison, and gives its exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pagedbench.runs.exit_codes import INVALID, NOT_COMPARABLE, REGRESSION
from pagedbench.runs.files import write_files
from pagedbench.show.ci import announce, ci_texts
from pagedbench.show.console import COMPARE_WIDTH, stdout_console
from pagedbench.tools.compare.change_documents import changes_document
from pagedbench.tools.compare.changes import headline, print_changes
from pagedbench.tools.compare.judgements import invalid_sides, judgements_of

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.runs.options import Given
    from pagedbench.tools.compare.comparison import Comparison, Side

TITLE = "pagedbench compare"
"""The heading over the verdicts in CI."""


def deliver(comparison: Comparison, sides: Items[Side], given: Given) -> None:
    """Show the comparison, save it with files for CI in --output, and tell GitHub Actions.

    Raises:
        ReportError: the reports cannot be written.
    """
    judgements = judgements_of(comparison)
    if given.strict and comparison.is_comparable:
        judgements += invalid_sides(sides)
    if given.format == "rich":
        print_changes(stdout_console(COMPARE_WIDTH), comparison)
    else:
        sys.stdout.write(changes_document(comparison, given.format))
    if given.output is not None:
        texts = _documents(comparison) | ci_texts(judgements, TITLE)
        print(f"Saved to {write_files(texts, given.output, force=given.force)}", file=sys.stderr)
    announce(judgements, TITLE, changes_document(comparison, "md"))


def report_suspicion(comparison: Comparison, given: Given, folder: Path) -> None:
    """Save a first round beside its runs, and show it to people; programs read the final verdict only."""
    if given.format == "rich":
        print_changes(stdout_console(COMPARE_WIDTH), comparison)
    write_files(_documents(comparison), folder, force=True)
    print(f"Suspected, and to be confirmed by as many fresh runs: {headline(comparison)}", file=sys.stderr)


def _documents(comparison: Comparison) -> dict[str, str]:
    return {f"comparison.{kind}": changes_document(comparison, kind) for kind in ("json", "csv", "md")}


def exit_code(comparison: Comparison, given: Given, sides: Items[Side]) -> int:
    """6 before 3 before 5: runs that cannot be compared have no verdict."""
    if not comparison.is_comparable:
        return NOT_COMPARABLE
    if comparison.failures:
        return REGRESSION
    is_usable = all(run.is_usable for side in sides for run in side.runs)
    return INVALID if given.strict and not is_usable else 0
