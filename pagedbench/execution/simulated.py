"""Simulated execution: the trace's known lengths stand for the model, a law of ancestry for beam search."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pagedbench.execution.executor import BeamStep, Samples
from pagedbench.execution.random_numbers import uniforms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.request import Sequence, SequenceGroup
    from pagedbench.scheduling.batch import Batch

BEST_PARENT_PROBABILITY = 0.18
"""How often a beam gives itself up and continues the best one.

Fitted to beam search on a trained model (stories260K, widths 2, 4 and 6): of the beams but the best,
40-43 % still had an ancestor of their own 4 tokens back, 17-22 % 8 and 4-8 % 16 tokens back; the law
gives (1 - p) ** distance, which is 45, 20 and 4 %.
"""

_NOTHING_SAMPLED = Samples()


class Simulated:
    """An executor that computes nothing: every sequence goes on by itself until its length is reached.

    Beams have parents by a law: the best beam continues itself; each other beam continues the best one
    with probability `best_parent_probability`, and otherwise itself; then they are ranked as their
    parents were. In its first step every beam continues itself, as in beam search. The random
    numbers belong to (seed, request, output position), so a schedule does not change the ancestry.
    """

    best_parent_probability: ClassVar[float] = BEST_PARENT_PROBABILITY

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._searching: set[SequenceGroup] = set()  # groups in beam search that have had a first step

    def execute(self, batch: Batch) -> Samples:
        """The parents of beams; nothing else is known."""
        groups = self._decoding(batch) if self._searching else []
        started = [prefill.sequence.group for prefill in batch.prefills if _starts_beams(prefill.sampled)]
        self._searching.update(started)
        groups += dict.fromkeys(started)
        if not groups:
            return _NOTHING_SAMPLED
        self._searching.difference_update(group for group in groups if _is_last_step(group))
        return Samples(beams=self._beam_steps(groups))

    def _decoding(self, batch: Batch) -> list[SequenceGroup]:
        """The searching groups that decode in this batch, each once."""
        present = dict.fromkeys(sequence.group for sequence in batch.decodes)
        return [group for group in present if group in self._searching]

    def _beam_steps(self, groups: list[SequenceGroup]) -> list[BeamStep]:
        by_width: dict[int, list[SequenceGroup]] = {}
        for group in groups:
            by_width.setdefault(group.num_sequences, []).append(group)
        return [
            BeamStep(group, parents)
            for width, alike in by_width.items()
            for group, parents in zip(alike, self._parents(alike, width).tolist(), strict=True)
        ]

    def _parents(self, groups: list[SequenceGroup], width: int) -> NDArray[np.int64]:
        """What each beam of each group continues, the best first.  # [num_groups, width]"""
        positions = np.array([_position(group) for group in groups])[:, None]
        requests = np.array([group.request.request_id for group in groups])[:, None]
        chances = uniforms(self._seed, requests, positions, np.arange(width))  # [num_groups, width]
        is_given_up = (chances < self.best_parent_probability) & (positions > 0)
        return np.sort(np.where(is_given_up, 0, np.arange(width)), axis=1)


def _starts_beams(sampled: tuple[Sequence, ...]) -> bool:
    return bool(sampled) and sampled[0].group.request.sampling.beam_width is not None


def _position(group: SequenceGroup) -> int:
    """The output position that the present iteration decides."""
    return group.sequences[0].num_stored - group.request.prompt_len


def _is_last_step(group: SequenceGroup) -> bool:
    return _position(group) == group.request.output_len - 1
