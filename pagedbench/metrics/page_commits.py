"""What committing pages costs a run; None where all slots have memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.metrics.observed import Observed


def commit_time_mean_ms(run: Observed) -> float | None:
    """Milliseconds that an iteration waits for pages, mean over iterations."""
    counts = run.record.page_counts
    if counts is None or not len(run.record.steps):
        return None
    return 1000 * counts.commit_time / len(run.record.steps)
