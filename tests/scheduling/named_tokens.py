"""An executor whose tokens have names and whose beams have drawn parents: it proves what lies where."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from memory.contents import Contents, Token
from pagedbench.scheduling.samples import BeamStep, Samples

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager
    from pagedbench.request import Request, Sequence, SequenceGroup
    from pagedbench.scheduling.batch import Batch


def drawn_step(request: Request, position: int) -> tuple[list[int], list[int], list[float]]:
    """Parents, tokens and scores of a beam step: a pure function of request and output position."""
    width = request.sampling.width
    dice = random.Random(f"{request.request_id} {position}")
    parents = dice.choices(range(width), k=width)
    tokens = [dice.randrange(10**9) for _ in range(width)]
    return parents, tokens, [-dice.random() for _ in range(width)]


def drawn_token(request: Request, position: int, sequence_id: int) -> int:
    """What a parallel sample appends."""
    return random.Random(f"{request.request_id} {position} {sequence_id}").randrange(10**9)


def expected_outputs(request: Request) -> list[tuple[list[int], float | None]]:
    """What each sequence ends with, and its score if it is a beam."""
    width, length = request.sampling.width, request.reply_len
    if request.sampling.beam_width is None:
        return [([drawn_token(request, i, k) for i in range(length)], None) for k in range(width)]
    beams: list[tuple[list[int], float | None]] = [([], None)] * width
    for position in range(length):
        parents, tokens, scores = drawn_step(request, position)
        rows = zip(parents, tokens, scores, strict=True)
        beams = [([*beams[parent][0], token], score) for parent, token, score in rows]
    return beams


def drawn_count(request: Request, position: int, most: int) -> int:
    """How many tokens a decoding sequence gets in one iteration."""
    return random.Random(f"{request.request_id} {position}").randint(1, most)


class NamedTokens:
    """Executes batches on named tokens. Whoever samples must read exactly its prompt and its own reply.

    A decoding sequence gets up to `most` tokens in an iteration, all of which but the last are stored.
    """

    def __init__(self, memory: KVManager, most: int = 1) -> None:
        self.memory = memory
        self.contents = Contents()
        self.most = most
        memory.num_lookahead = most - 1

    def execute(self, batch: Batch) -> Samples:
        self.contents.move(batch.evictions, batch.swap_outs, batch.swap_ins, batch.promotions, batch.copies)
        for prefill in batch.prefills:
            sequence = prefill.sequence
            assert sequence.num_computed == min(prefill.start, sequence.group.sequences[0].num_computed)
            assert sequence.num_stored == min(prefill.stop, sequence.group.sequences[0].num_stored)
            self._write(sequence, _history(sequence), prefill.start, prefill.stop)
        alive = [sequence for sequence in batch.decodes if _is_alive(sequence)]
        assert len(alive) == batch.num_decode_tokens
        for sequence in alive:
            assert sequence.num_computed == sequence.num_stored - 1
            self._write(sequence, _history(sequence), sequence.num_computed, sequence.num_stored)
        sampled = alive + [sequence for prefill in batch.prefills for sequence in prefill.sampled]
        for sequence in sampled:
            self._check(sequence, _history(sequence), sequence.num_stored)
        return self._samples(sampled, set(alive))

    def _check(self, sequence: Sequence, tokens: list[Token], length: int) -> None:
        """In every layer group, what the newest of `length` tokens sees is there."""
        for number, layers in enumerate(self.memory.layer_groups):
            placement = self.memory.placement(sequence, number)
            for part in layers.kept(length):
                found = [self.contents.device[slot] for slot in placement.slots(part.start, part.stop)]
                assert found == [(number, token) for token in tokens[part.start : part.stop]]

    def _write(self, sequence: Sequence, tokens: list[Token], start: int, stop: int) -> None:
        for number in range(len(self.memory.layer_groups)):
            slots = self.memory.placement(sequence, number).slots(start, stop)
            named = [(number, token) for token in tokens[start:stop]]
            self.contents.write(zip(slots, named, strict=True), {})

    def _samples(self, sampled: list[Sequence], decoding: set[Sequence]) -> Samples:
        samples = Samples()
        groups: dict[SequenceGroup, None] = dict.fromkeys(sequence.group for sequence in sampled)
        for group in groups:
            assert {item for item in sampled if item.group is group} == set(group.sequences)
            position = len(group.sequences[0].output_ids)
            if group.request.sampling.beam_width is not None:
                samples.beams.append(BeamStep(group, *drawn_step(group.request, position)))
                continue
            is_decoding = group.sequences[0] in decoding
            count = drawn_count(group.request, position, self.most) if is_decoding else 1
            for sequence in group.sequences:
                tokens = [
                    drawn_token(group.request, position + i, sequence.sequence_id) for i in range(count)
                ]
                history, last = [*_history(sequence), *tokens[:-1]], group.final_len - 1
                self._write(sequence, history, sequence.num_stored, min(len(history), last))
                samples.sequences.append(sequence)
                samples.tokens.extend(tokens)
                samples.logprobs.extend([-1.0] * count)
                samples.counts.extend([count] * (self.most > 1))
        return samples


def _is_alive(sequence: Sequence) -> bool:
    return len(sequence.output_ids) < sequence.group.request.reply_len


def _history(sequence: Sequence) -> list[Token]:
    """The tokens that a sequence has so far; those sampled now come behind them."""
    history: list[Token] = [*sequence.group.request.prompt.contents().tolist(), *sequence.output_ids]
    assert len(history) == sequence.num_tokens
    return history
