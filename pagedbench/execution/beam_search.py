"""Which beams go on: the best continuations of all of a group's beams together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pagedbench.scheduling.samples import BeamStep

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.request import Sequence, SequenceGroup


def beam_steps(logits: Tensor, rows: dict[SequenceGroup, dict[Sequence, int]]) -> list[BeamStep]:
    """One step of every group, in the order given; groups of one width are computed together.

    Scores are sums of log-probabilities in float32, and nothing ends a beam early: Hugging Face's beam
    search with end-of-sequence off, whose `sequences_scores` are these divided by the length.

    Args:
        logits: [num_rows, vocab_size]
        rows: of the logits, for every sequence of each group.
    """
    kinds: dict[tuple[int, bool], list[SequenceGroup]] = {}
    for group in rows:
        kinds.setdefault((group.num_sequences, _is_fresh(group)), []).append(group)
    steps: dict[SequenceGroup, BeamStep] = {}
    for (_, is_fresh), groups in kinds.items():
        compute = _first_steps if is_fresh else _next_steps
        table = [[rows[group][sequence] for sequence in group.sequences] for group in groups]
        logprobs = _logprobs(logits, [row[:1] if is_fresh else row for row in table])
        steps.update(zip(groups, compute(logprobs, groups), strict=True))
    return [steps[group] for group in rows]


def _is_fresh(group: SequenceGroup) -> bool:
    return not group.sequences[0].output_ids


def _logprobs(logits: Tensor, table: list[list[int]]) -> Tensor:
    """[num_groups, num_beams, vocab_size], in float32."""
    rows = torch.tensor(table, device=logits.device)  # [num_groups, num_beams]
    picked = logits.index_select(0, rows.flatten()).unflatten(0, tuple(rows.shape))
    return picked.log_softmax(dim=-1, dtype=torch.float32)


def _first_steps(logprobs: Tensor, groups: list[SequenceGroup]) -> list[BeamStep]:
    """All beams hold the same prompt: each takes one of the best tokens of the first, and stays itself."""
    width = groups[0].num_sequences
    scores, tokens = logprobs[:, 0].topk(width)  # [num_groups, width]
    columns = zip(groups, tokens.tolist(), scores.tolist(), strict=True)
    return [BeamStep(group, list(range(width)), ids, best) for group, ids, best in columns]


def _next_steps(logprobs: Tensor, groups: list[SequenceGroup]) -> list[BeamStep]:
    vocab_size = logprobs.shape[-1]
    past = [[sequence.cumulative_logprob for sequence in group.sequences] for group in groups]
    totals = logprobs + torch.tensor(past, dtype=torch.float32, device=logprobs.device)[:, :, None]
    scores, chosen = totals.flatten(1).topk(logprobs.shape[1])  # [num_groups, width]
    parents, tokens = chosen // vocab_size, chosen % vocab_size
    columns = zip(groups, parents.tolist(), tokens.tolist(), scores.tolist(), strict=True)
    return [BeamStep(*column) for column in columns]
