"""Samples: what an Executor makes of a Batch, and what that changes in the sequences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.request import Sequence, SequenceGroup
    from pagedbench.scheduling.batch import Batch


@dataclass(frozen=True, slots=True)
class BeamStep:
    """One step of one group's beam search, in columns with one row per beam, the best first.

    Attributes:
        parents: for each beam, the index among the group's sequences of the one that it continues.
        tokens: what each beam appends; empty in simulation.
        scores: each beam's cumulative log-probability, the new token included; empty in simulation.
    """

    group: SequenceGroup
    parents: list[int]
    tokens: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Samples:
    """The tokens that an iteration produced, in columns.

    If all columns are empty, only lengths are known (simulation): every sequence of the batch gets one
    token. Groups in beam search have a `BeamStep` in `beams` instead, simulated or not.

    A decoding sequence may get several tokens in one iteration (speculative decoding, several steps at
    once): at most `KVManager.num_lookahead` more than one, and as many as the other sequences of its
    group. The keys and values of all but the last are then in the cache. The iteration that completes a
    prompt gives one token. Tokens after a stop token, or beyond the reply's length, are dropped.

    Attributes:
        sequences: those that got tokens.
        tokens, logprobs: one row per token, in the order of `sequences`.
        counts: tokens of each sequence; empty if each got one.
        broadcast_bytes: bytes sent to each other rank for the iteration.
    """

    sequences: list[Sequence] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    beams: list[BeamStep] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    broadcast_bytes: int = 0


class Executor(Protocol):
    """Runs iterations: the boundary between deciding and computing."""

    def execute(self, batch: Batch) -> Samples:
        """Compute the batch; returns when its samples are known."""
        ...


def append_tokens(samples: Samples) -> dict[SequenceGroup, int]:
    """Append the sampled tokens. Returns how many tokens beyond one each sequence of a group got."""
    num_more: dict[SequenceGroup, int] = {}
    if not samples.counts:
        for sequence, token, logprob in zip(
            samples.sequences, samples.tokens, samples.logprobs, strict=True
        ):
            sequence.append(token, logprob)
        return num_more
    assert sum(samples.counts) == len(samples.tokens), "a token belongs to no sequence"
    rows = zip(samples.tokens, samples.logprobs, strict=True)
    for sequence, count in zip(samples.sequences, samples.counts, strict=True):
        num_before = len(sequence.output_ids)
        for _ in range(count):
            token, logprob = next(rows)
            if not sequence.has_ended:
                sequence.append(token, logprob)
        number = len(sequence.output_ids) - num_before - 1
        if number > num_more.get(sequence.group, 0):
            num_more[sequence.group] = number
    return num_more


def reorder_beams(step: BeamStep, fork: Callable[[Sequence, Sequence], None] | None) -> bool:
    """Let each beam continue its parent and append its newest token; all beams of a step change at once.

    Args:
        fork: gives its second argument the tokens of its first; None: keys and values are not read again.

    Returns whether the group's sequences are now in another order.
    """
    group = step.group
    has_changed = step.parents != list(range(group.num_sequences))  # else each continues itself
    if has_changed:
        group.sequences = _continued(step, fork)
    for sequence, token, score in zip(group.sequences, step.tokens, step.scores, strict=False):
        sequence.output_ids.append(token)
        sequence.cumulative_logprob = score
    return has_changed


def _continued(step: BeamStep, fork: Callable[[Sequence, Sequence], None] | None) -> list[Sequence]:
    """The sequences in the order of the step's beams (paper, section 4.4).

    The first beam that continues a parent keeps the parent's sequence. Each further one becomes a fork
    of it, in a sequence that no beam continues.
    """
    old = step.group.sequences
    unused = [sequence for i, sequence in enumerate(old) if i not in step.parents]
    sequences: list[Sequence] = []
    seen: set[int] = set()
    for i in step.parents:
        if i not in seen:
            seen.add(i)
            sequences.append(old[i])
            continue
        child = unused.pop()
        child.output_ids = list(old[i].output_ids)
        child.cumulative_logprob = old[i].cumulative_logprob
        sequences.append(child)
        if fork is not None:
            fork(old[i], child)
    return sequences
