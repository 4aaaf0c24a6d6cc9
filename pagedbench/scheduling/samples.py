"""Executor: one method from a Batch to Samples, the boundary between deciding and computing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pagedbench.request import Sequence, SequenceGroup
    from pagedbench.scheduling.batch import Batch


@dataclass(frozen=True, slots=True)
class BeamStep:
    """One step of one group's beam search, in columns with one row a beam, the best first.

    Attributes:
        parents: the index, among the group's present sequences, of the one that each beam continues.
        tokens: what each beam appends; none in simulation.
        scores: each beam's cumulative log-probability, the new token included; none in simulation.
    """

    group: SequenceGroup
    parents: list[int]
    tokens: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Samples:
    """What an iteration decided, in columns with one row for every sequence that got a token.

    No rows at all means that lengths are all that is known (simulation): every sequence of the batch
    goes on by itself. Groups in beam search have a step of their own in `beams` instead, simulated or not.
    """

    sequences: list[Sequence] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    beams: list[BeamStep] = field(default_factory=list)


class Executor(Protocol):
    """Runs one iteration."""

    def execute(self, batch: Batch) -> Samples:
        """Compute the batch; returns when its samples are known."""
        ...
