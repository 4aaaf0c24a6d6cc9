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
        tokens: what each beam appends; empty in simulation.
        scores: each beam's cumulative log-probability, the new token included; empty in simulation.
    """

    group: SequenceGroup
    parents: list[int]
    tokens: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Samples:
    """What an iteration decided, in columns.

    If all columns are empty, only lengths are known (simulation): every sequence of the batch gets one
    token. Groups in beam search have a step of their own in `beams` instead, simulated or not.

    A decoding sequence may get several tokens in one iteration (speculative decoding, several steps at
    once): at most `KVManager.num_lookahead` more than one, and as many as the other sequences of its
    group. The keys and values of all but the last are then in the cache. The iteration that completes a
    prompt gives one token. Tokens after a stop token, or beyond the reply's length, are dropped.

    Attributes:
        sequences: those that got tokens.
        tokens, logprobs: one row a token, in the order of `sequences`.
        counts: tokens of each sequence; empty if each got one.
    """

    sequences: list[Sequence] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    beams: list[BeamStep] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


class Executor(Protocol):
    """Runs one iteration."""

    def execute(self, batch: Batch) -> Samples:
        """Compute the batch; returns when its samples are known."""
        ...
