"""Simulated: an executor without a model. Lengths are the trace's; parents of beams follow a random law."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pagedbench.scheduling.samples import BeamStep, Samples
from pagedbench.simulation.random_numbers import uniforms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.request import Sequence, SequenceGroup
    from pagedbench.scheduling.batch import Batch

BEST_PARENT_PROBABILITY = 0.18
"""Probability that a beam is replaced by a continuation of the best one.

Fitted to beam search on a trained model (stories260K, widths 2, 4 and 6): among beams other than the best,
40-43 % had an ancestor of their own 4 tokens back, 17-22 % 8 and 4-8 % 16 tokens back. The law gives
(1 - p) ** distance, which is 45, 20 and 4 %.
"""

_NOTHING_SAMPLED = Samples()


class Simulated:
    """An executor that computes nothing: every sequence grows until its length is reached.

    The law of the parents of beams: the best beam continues itself; any other beam continues the best one
    with probability `best_parent_probability`, and otherwise itself; then beams are ranked as their
    parents. In the first step every beam continues itself, as in beam search. The random numbers belong to
    (seed, request, output position), so the schedule does not change the parents.
    """

    best_parent_probability: ClassVar[float] = BEST_PARENT_PROBABILITY

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        # For groups in beam search, the parent of each beam by output position.
        self._parents: dict[SequenceGroup, list[list[int]]] = {}

    def execute(self, batch: Batch) -> Samples:
        """The parents of beams; no tokens are sampled."""
        groups = self._decoding(batch) if self._parents else []
        for prefill in batch.prefills:
            if _starts_beams(prefill.sampled) and prefill.sequence.group not in groups:
                groups.append(prefill.sequence.group)
        return Samples(beams=[self._beam_step(group) for group in groups]) if groups else _NOTHING_SAMPLED

    def _decoding(self, batch: Batch) -> list[SequenceGroup]:
        """The groups in beam search that decode in this batch, each once."""
        present = dict.fromkeys(sequence.group for sequence in batch.decodes)
        return [group for group in present if group in self._parents]

    def _beam_step(self, group: SequenceGroup) -> BeamStep:
        position = group.sequences[0].num_stored - group.prompt_len  # in the output
        if group not in self._parents:
            self._parents[group] = self._sample_parents(group).tolist()
        parents = self._parents[group][position]
        if position == group.request.reply_len - 1:
            del self._parents[group]
        return BeamStep(group, parents)

    def _sample_parents(self, group: SequenceGroup) -> NDArray[np.int64]:
        """The parents of all beams in every step, the best beam first.  # [output_len, width]"""
        positions = np.arange(group.request.reply_len)[:, None]
        ranks = np.arange(group.num_sequences)
        chances = uniforms(self._seed, group.request.request_id, positions, ranks)  # [output_len, width]
        is_replaced = (chances < self.best_parent_probability) & (positions > 0)
        return np.sort(np.where(is_replaced, 0, ranks), axis=1)


def _starts_beams(sampled: tuple[Sequence, ...]) -> bool:
    return bool(sampled) and sampled[0].group.request.sampling.beam_width is not None
