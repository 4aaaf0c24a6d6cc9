"""Simulated execution: the trace's known lengths stand for the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.execution.executor import Samples

if TYPE_CHECKING:
    from pagedbench.scheduling.batch import Batch

_NOTHING_SAMPLED = Samples()


class Simulated:
    """An executor that computes nothing: every sequence goes on by itself until its length is reached."""

    def execute(self, batch: Batch) -> Samples:
        return _NOTHING_SAMPLED
