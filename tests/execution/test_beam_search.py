"""One step of beam search."""

from __future__ import annotations

import pytest
import torch

from execution.groups import group_of
from pagedbench.execution import sampling
from pagedbench.execution.sampling_groups import SamplingGroups
from pagedbench.execution.step_inputs import StepOutputs

PROBABILITIES = torch.tensor(
    [
        [0.1, 0.2, 0.3, 0.4],
        [0.7, 0.1, 0.1, 0.1],
        [0.25, 0.25, 0.2, 0.3],
    ]
)


def beam_steps(logits, *rows):
    """A step of each group; `rows`: the rows of the logits, for every sequence of each group."""
    members = [[] for _ in logits]
    for group_rows in rows:
        for sequence, row in group_rows.items():
            members[row].append(sequence)
    groups = SamplingGroups(members)
    inputs = groups.inputs()
    outputs = StepOutputs([], [], sampling.beam_steps(logits, inputs.beam_rows, inputs))
    return groups.samples(outputs).beams


def rows_of(group, *rows):
    return dict(zip(group.sequences, rows, strict=True))


def log(*numbers):
    return pytest.approx([torch.tensor(number).log().item() for number in numbers], abs=1e-6)


def test_a_fresh_group_takes_the_best_of_one_prompt():
    group = group_of(beam_width=3)
    (step,) = beam_steps(PROBABILITIES.log(), rows_of(group, 0, 0, 0))
    assert step.group is group
    assert step.parents == [0, 1, 2]
    assert step.tokens == [3, 2, 1]
    assert step.scores == log(0.4, 0.3, 0.2)


def test_candidates_of_all_beams_compete():
    group = group_of(beam_width=2, num_tokens=1)
    one, two = group.sequences
    one.cumulative_logprob = torch.tensor(0.5).log().item()
    two.cumulative_logprob = torch.tensor(0.4).log().item()
    (step,) = beam_steps(PROBABILITIES.log(), rows_of(group, 0, 1))
    assert step.parents == [1, 0]
    assert step.tokens == [0, 3]
    assert step.scores == log(0.4 * 0.7, 0.5 * 0.4)


def test_one_beam_may_father_all():
    group = group_of(beam_width=3, num_tokens=2)
    for sequence, past in zip(group.sequences, (0.0, -9.0, -9.0), strict=True):
        sequence.cumulative_logprob = past
    (step,) = beam_steps(PROBABILITIES.log(), rows_of(group, 0, 1, 2))
    assert step.parents == [0, 0, 0]
    assert step.tokens == [3, 2, 1]


def test_logits_need_not_be_normalised():
    group = group_of(beam_width=2)
    (step,) = beam_steps(PROBABILITIES.log() + 5.0, rows_of(group, 1, 1))
    assert step.scores == log(0.7, 0.1)


def test_groups_of_all_kinds_keep_their_order_and_do_not_mix():
    logits = torch.randn(40, 50, generator=torch.Generator().manual_seed(3))
    groups = [
        group_of(number, width and number % 3, beam_width=width)
        for number, width in enumerate((2, 4, 2, 1, 4, 2, 3))
    ]
    rows, next_row = {}, 0
    for group in groups:
        rows[group] = rows_of(group, *range(next_row, next_row + group.num_sequences))
        next_row += group.num_sequences
        for i, sequence in enumerate(group.sequences):
            sequence.cumulative_logprob = -0.3 * i
    together = beam_steps(logits, *rows.values())
    assert [step.group for step in together] == groups
    assert together == [beam_steps(logits, rows[group])[0] for group in groups]


def test_rows_follow_the_present_order_of_the_beams():
    """The batch may hold the sequences in another order than the group ranks them."""
    group = group_of(beam_width=2, num_tokens=1)
    rows = rows_of(group, 0, 1)
    group.sequences.reverse()
    group.sequences[1].cumulative_logprob = -9.0  # the one with row 0
    (step,) = beam_steps(PROBABILITIES.log(), rows)
    assert step.parents == [0, 0]
    assert step.scores[0] == pytest.approx(torch.tensor(0.7).log().item(), abs=1e-6)


def test_half_precision_logits_are_scored_in_float32():
    group = group_of(beam_width=2)
    logits = torch.linspace(-3, 3, 200).bfloat16()[None]
    (step,) = beam_steps(logits, rows_of(group, 0, 0))
    assert step.scores == pytest.approx(logits.double().log_softmax(-1)[0, [199, 198]].tolist(), abs=1e-5)
