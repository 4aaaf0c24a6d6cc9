"""SamplingGroups: which sequences get a token in an iteration, each by its own decoding method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pagedbench.execution.step_inputs import SamplingInputs
from pagedbench.scheduling.samples import BeamStep, Samples
from pagedbench.simulation.random_numbers import uniforms

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from pagedbench.execution.step_inputs import StepOutputs
    from pagedbench.request import Sequence, SequenceGroup


class SamplingGroups:
    """The sequences that get a token, by decoding method, and the row that each is sampled from.

    Valid as long as the same sequences have the same rows and none of them ends.
    """

    def __init__(self, sampled: Iterable[Iterable[Sequence]] = ()) -> None:
        """`sampled`: for each row, the sequences sampled from it. Those that have ended get nothing."""
        self._greedy: dict[Sequence, int] = {}
        self._random: dict[Sequence, int] = {}
        self._beams: dict[SequenceGroup, dict[Sequence, int]] = {}
        self._with_logprobs = False
        self._inputs: SamplingInputs | None = None
        for row, sequences in enumerate(sampled):
            for sequence in sequences:
                if not sequence.has_ended:
                    self._add(sequence, row)

    def _add(self, sequence: Sequence, row: int) -> None:
        sampling = sequence.group.request.sampling
        self._with_logprobs |= sampling.logprobs
        if sampling.beam_width is not None:
            self._beams.setdefault(sequence.group, {})[sequence] = row
        elif sampling.temperature > 0:
            self._random[sequence] = row
        else:
            self._greedy[sequence] = row

    def inputs(self) -> SamplingInputs:
        """How the sequences are sampled in this iteration; it never changes if all are greedy."""
        if self._inputs is None or self._random or self._beams:
            self._inputs = self._make_inputs()
        return self._inputs

    def _make_inputs(self) -> SamplingInputs:
        random, groups = list(self._random), list(self._beams)
        samplings = [sequence.group.request.sampling for sequence in random]
        beams = [sequence for group in groups for sequence in group.sequences]  # in their present order
        return SamplingInputs(
            greedy_rows=np.array(list(self._greedy.values()), dtype=np.int64),
            random_rows=np.array(list(self._random.values()), dtype=np.int64),
            temperatures=np.array([item.temperature for item in samplings], dtype=np.float32),
            top_ks=np.array([item.top_k for item in samplings], dtype=np.int64),
            top_ps=np.array([item.top_p for item in samplings], dtype=np.float64),
            uniforms=_uniforms(random),
            beam_widths=np.array([group.num_sequences for group in groups], dtype=np.int64),
            is_first_step=np.array([not group.sequences[0].output_ids for group in groups], dtype=np.bool_),
            beam_rows=np.array([self._beams[item.group][item] for item in beams], dtype=np.int64),
            beam_scores=np.array([item.cumulative_logprob for item in beams], dtype=np.float32),
            with_logprobs=self._with_logprobs,
        )

    def samples(self, outputs: StepOutputs) -> Samples:
        """Assign outputs to their sequences: greedy ones first, then random ones, then beams."""
        steps = zip(self._beams, outputs.beams, strict=True)
        beams = [BeamStep(group, step.parents, step.tokens, step.scores) for group, step in steps]
        sequences = [*self._greedy, *self._random]
        return Samples(
            sequences, outputs.tokens, outputs.logprobs, beams, broadcast_bytes=outputs.broadcast_bytes
        )


def _uniforms(sequences: Items[Sequence]) -> NDArray[np.float64]:
    """A random number in [0, 1) per sequence, a function of its seed, request, number and position."""
    requests = [sequence.group.request for sequence in sequences]
    return uniforms(
        [request.sampling.seed for request in requests],
        [request.random_id for request in requests],
        [sequence.sequence_id for sequence in sequences],
        [len(sequence.output_ids) for sequence in sequences],
    )
