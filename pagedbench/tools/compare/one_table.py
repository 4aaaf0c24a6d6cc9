"""Runs on the same requests, made one after another and shown in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.show.comparison import print_comparison
from pagedbench.show.console import COMPARE_WIDTH, stdout_console
from pagedbench.show.repeats import print_repeats
from pagedbench.show.session import print_document, print_header

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.runs.jobs import Job
    from pagedbench.show.session import Session


def run_in_one_table(session: Session, jobs: Items[Job], repeats: int = 1) -> int:
    """Make the runs and print their table. Returns the exit code.

    Args:
        repeats: how many times each run is among the jobs.
    """
    console, is_rich = stdout_console(COMPARE_WIDTH), session.options.format == "rich"
    if is_rich:
        print_header(console, jobs)
    for number, job in enumerate(jobs, start=1):
        session.execute(job, f"{job.plan.system.name} ({number}/{len(jobs)})")
        if session.is_interrupted:
            break
    if not is_rich:
        print_document(session)
        return session.conclude()
    print_comparison(console, session.results)
    if repeats > 1:
        print_repeats(console, session.results)
    num_missing = len(jobs) - len(session.finished)
    if num_missing:
        console.print(f"Interrupted: {num_missing} of {len(jobs)} runs were not started.")
    for finished in session.finished:
        console.print(f"Saved to {finished.folder}", soft_wrap=True)
    return session.conclude()
