"""From logits to samples: every sequence by its own decoding method, all of one method together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from pagedbench.execution.beam_search import beam_steps
from pagedbench.execution.executor import Samples
from pagedbench.execution.sampler import draw, greedy, logprobs_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from pagedbench.request import Sequence, SequenceGroup


@dataclass(slots=True)
class Members:
    """Sequences of one decoding method, and the rows of the logits that they are sampled from."""

    sequences: list[Sequence] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def add(self, sequence: Sequence, row: int) -> None:
        self.sequences.append(sequence)
        self.rows.append(row)


def decode(logits: Tensor, sampled: Iterable[tuple[Sequence, ...]], *, with_logprobs: bool) -> Samples:
    """A token for every sequence that still needs one: the greedy ones first, then the random, then beams.

    Args:
        logits: [num_rows, vocab_size]
        sampled: the sequences that each row is for.
        with_logprobs: also the log-probabilities of greedy and random tokens; 0.0 otherwise. Beams
            always have their scores.
    """
    likeliest, random = Members(), Members()
    beams: dict[SequenceGroup, dict[Sequence, int]] = {}
    for row, sequences in enumerate(sampled):
        for sequence in sequences:
            sampling = sequence.group.request.sampling
            if len(sequence.output_ids) >= sampling.output_len:
                continue  # ended, and computed to the end of its batch
            if sampling.beam_width is not None:
                beams.setdefault(sequence.group, {})[sequence] = row
            else:
                (random if sampling.temperature > 0 else likeliest).add(sequence, row)
    rows = torch.tensor(likeliest.rows + random.rows, dtype=torch.int64, device=logits.device)
    tokens = _tokens(logits, rows, random.sequences)
    logprobs = [0.0] * len(rows)
    if with_logprobs:
        logprobs = logprobs_of(logits, rows, tokens).tolist()
    return Samples(
        likeliest.sequences + random.sequences, tokens.tolist(), logprobs, beam_steps(logits, beams)
    )


def _tokens(logits: Tensor, rows: Tensor, random: list[Sequence]) -> Tensor:
    """The likeliest tokens of `rows`, but of the last ones a drawn one for each `random` sequence."""
    tokens = greedy(logits).index_select(0, rows)  # [len(rows)]
    if random:
        first = len(rows) - len(random)
        tokens[first:] = draw(logits.index_select(0, rows[first:]), random)
    return tokens
