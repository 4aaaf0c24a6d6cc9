"""Emulation: a server that computes nothing, and replies in the time that a cost model predicts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pagedbench.clock import PacedClock, VirtualClock
from pagedbench.prompt import NUM_SPECIAL_TOKENS
from pagedbench.scheduling.samples import Samples

if TYPE_CHECKING:
    from pagedbench.engine import Engine
    from pagedbench.request import Sequence
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import BeamStep, Executor


class MadeUpTokens:
    """Adds tokens to the samples of a simulated executor; they count up from the prompt's length."""

    def __init__(self, simulated: Executor, vocab_size: int) -> None:
        self._simulated = simulated
        self._num_ordinary = max(vocab_size - NUM_SPECIAL_TOKENS, 1)
        self._first = min(NUM_SPECIAL_TOKENS, vocab_size - 1)

    def execute(self, batch: Batch) -> Samples:
        steps = self._simulated.execute(batch).beams
        sampled = [sequence for prefill in batch.prefills for sequence in prefill.sampled]
        sequences = [
            sequence
            for sequence in (*sampled, *batch.decodes)
            if sequence.group.request.sampling.beam_width is None and not sequence.has_ended
        ]
        tokens = [self._token(sequence) for sequence in sequences]
        return Samples(sequences, tokens, [0.0] * len(tokens), [self._with_tokens(step) for step in steps])

    def _token(self, sequence: Sequence) -> int:
        position = sequence.group.prompt_len + len(sequence.output_ids)
        return self._first + (position + 7 * sequence.sequence_id) % self._num_ordinary

    def _with_tokens(self, step: BeamStep) -> BeamStep:
        sequences = [step.group.sequences[parent] for parent in step.parents]
        scores = [sequence.cumulative_logprob for sequence in sequences]
        return replace(step, tokens=[self._token(sequence) for sequence in sequences], scores=scores)


def emulate(engine: Engine, vocab_size: int) -> None:
    """Let a simulated engine run in real time, and add tokens to its replies."""
    assert isinstance(engine.clock, VirtualClock), "the engine is not simulated"
    engine.executor = MadeUpTokens(engine.executor, vocab_size)
    engine.clock = PacedClock(engine.clock)
