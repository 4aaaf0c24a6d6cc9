"""From states to samples: every sequence by its own decoding method, all of one method together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch

from pagedbench.execution.beam_search import beam_steps
from pagedbench.execution.sampler import draw, greedy, logprobs_of
from pagedbench.scheduling.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from pagedbench.request import Sequence, SequenceGroup


class Head(Protocol):
    """What makes tokens, or what every token scores, of states. See `models.decoder.Decoder`."""

    def logits(self, states: Tensor) -> Tensor: ...

    def greedy(self, states: Tensor) -> Tensor: ...


@dataclass(slots=True)
class Members:
    """Sequences of one decoding method, and the rows that they are sampled from."""

    sequences: list[Sequence] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def add(self, sequence: Sequence, row: int) -> None:
        self.sequences.append(sequence)
        self.rows.append(row)


@dataclass(slots=True)
class Takers:
    """The sequences that get a token, by decoding method, and the rows of the states that each takes.

    Valid for as long as the same sequences stand in the same rows and none of them ends.
    """

    likeliest: Members = field(default_factory=Members)
    random: Members = field(default_factory=Members)
    beams: dict[SequenceGroup, dict[Sequence, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, sampled: Iterable[Iterable[Sequence]]) -> Takers:
        """`sampled`: the sequences that each row is for. Those that have ended get nothing."""
        takers = cls()
        for row, sequences in enumerate(sampled):
            for sequence in sequences:
                sampling = sequence.group.request.sampling
                if sequence.has_ended:
                    continue
                if sampling.beam_width is not None:
                    takers.beams.setdefault(sequence.group, {})[sequence] = row
                else:
                    (takers.random if sampling.temperature > 0 else takers.likeliest).add(sequence, row)
        return takers


def decode(head: Head, states: Tensor, takers: Takers, *, with_logprobs: bool) -> Samples:
    """A token for every taker: the greedy ones first, then the random, then beams.

    Logits are computed only for the rows that need them: greedy tokens come straight from the head.

    Args:
        states: [num_rows, hidden_size]
        with_logprobs: also the log-probabilities of greedy and random tokens; 0.0 otherwise. Beams
            always have their scores.
    """
    likeliest, random = takers.likeliest, takers.random
    if with_logprobs:
        return _decode_with_logprobs(head.logits(states), takers)
    tokens = head.greedy(_pick(states, likeliest.rows)).tolist() if likeliest.rows else []
    beams = []
    if random.rows or takers.beams:
        in_beams = {row for rows in takers.beams.values() for row in rows.values()}
        needed = sorted(in_beams.union(random.rows))
        logits, place = head.logits(_pick(states, needed)), {row: i for i, row in enumerate(needed)}
        if random.rows:
            tokens += draw(_pick(logits, [place[row] for row in random.rows]), random.sequences).tolist()
        placed = {
            group: {sequence: place[row] for sequence, row in rows.items()}
            for group, rows in takers.beams.items()
        }
        beams = beam_steps(logits, placed)
    return Samples(likeliest.sequences + random.sequences, tokens, [0.0] * len(tokens), beams)


def _decode_with_logprobs(logits: Tensor, takers: Takers) -> Samples:
    """`logits`: [num_rows, vocab_size], of every row."""
    likeliest, random = takers.likeliest, takers.random
    rows = torch.tensor(likeliest.rows + random.rows, dtype=torch.int64, device=logits.device)
    tokens = greedy(logits).index_select(0, rows)  # [len(rows)]
    if random.rows:
        first = len(likeliest.rows)
        tokens[first:] = draw(logits.index_select(0, rows[first:]), random.sequences)
    logprobs = logprobs_of(logits, rows, tokens).tolist()
    sequences = likeliest.sequences + random.sequences
    return Samples(sequences, tokens.tolist(), logprobs, beam_steps(logits, takers.beams))


def _pick(table: Tensor, rows: list[int]) -> Tensor:
    """Some rows of a table; the table itself if it is all of them.  # [len(rows), ...]"""
    if rows == list(range(len(table))):
        return table
    return table.index_select(0, torch.tensor(rows, dtype=torch.int64, device=table.device))
