"""What samples change in their sequences: tokens are appended, beams continue each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.request import Sequence, SequenceGroup
    from pagedbench.scheduling.samples import BeamStep, Samples


def append_tokens(samples: Samples) -> dict[SequenceGroup, int]:
    """Append the sampled tokens. Returns how many beyond the first each sequence of a group has got."""
    num_more: dict[SequenceGroup, int] = {}
    if not samples.counts:
        for sequence, token, logprob in zip(
            samples.sequences, samples.tokens, samples.logprobs, strict=True
        ):
            sequence.append(token, logprob)
        return num_more
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
    """Give each beam its past and its newest token; all beams of a step change at once.

    Args:
        fork: lets its second argument continue from the tokens of its first; None: nothing will be read.

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
        child.continue_from(old[i])
        sequences.append(child)
        if fork is not None:
            fork(old[i], child)
    return sequences
