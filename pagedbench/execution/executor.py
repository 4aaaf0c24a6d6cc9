"""Executor: one method from a Batch to Samples, the boundary between deciding and computing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pagedbench.request import Sequence
    from pagedbench.scheduling.batch import Batch


@dataclass(frozen=True, slots=True)
class Samples:
    """What an iteration decided, in columns with one row for every sequence that got a token.

    No rows at all means that lengths are all that is known (simulation): every sequence of the batch
    goes on by itself.
    """

    sequences: list[Sequence] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class Executor(Protocol):
    """Runs one iteration."""

    def execute(self, batch: Batch) -> Samples:
        """Compute the batch; returns when its samples are known."""
        ...
