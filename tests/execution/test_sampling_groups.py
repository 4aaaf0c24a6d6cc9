"""Which sequences get what from a batch's logits."""

from __future__ import annotations

import pytest
import torch

from execution.groups import group_of
from pagedbench.execution.sampling import sample
from pagedbench.execution.sampling_groups import SamplingGroups


class Plain:
    """A head whose logits are the states; it notes for how many rows it was asked."""

    def __init__(self):
        self.asked = []

    def logits(self, states):
        self.asked.append(("logits", len(states)))
        return states

    def greedy(self, states):
        self.asked.append(("greedy", len(states)))
        return states.argmax(-1)


def decode(logits, sampled, *, with_logprobs, head=None):
    groups = SamplingGroups(sampled)
    return groups.samples(sample(head or Plain(), logits, groups.inputs(), with_logprobs=with_logprobs))


def tokens_alone(row, group):
    """What every sequence of the group gets from a row of the logits."""
    return decode(LOGITS[row][None], [tuple(group.sequences)], with_logprobs=False).tokens


def beams_alone(row, group):
    return decode(LOGITS[row][None], [tuple(group.sequences)], with_logprobs=False).beams


LOGITS = torch.randn(6, 100, generator=torch.Generator().manual_seed(4)) * 2


def test_all_methods_in_one_batch():
    plain, drawn, beams = group_of(0), group_of(1, n=2, temperature=1.0), group_of(2, beam_width=2)
    late = group_of(3, num_tokens=2)
    sampled = [
        tuple(drawn.sequences),
        tuple(plain.sequences),
        tuple(beams.sequences),
        tuple(late.sequences),
    ]
    samples = decode(LOGITS[:4], sampled, with_logprobs=True)
    assert samples.sequences == [*plain.sequences, *late.sequences, *drawn.sequences]
    expected = [LOGITS[1].argmax().item(), LOGITS[3].argmax().item()]
    expected += tokens_alone(0, drawn)
    assert samples.tokens == expected
    logprobs = LOGITS.log_softmax(-1)
    picked = [logprobs[row, token].item() for row, token in zip((1, 3, 0, 0), expected, strict=True)]
    assert samples.logprobs == pytest.approx(picked, abs=1e-6)
    assert samples.beams == beams_alone(2, beams)


def test_the_dead_get_nothing():
    dead, alive = group_of(0, num_tokens=5, max_tokens=5), group_of(1, num_tokens=4, max_tokens=5)
    dead_beams = group_of(2, num_tokens=5, max_tokens=5, beam_width=2)
    dead_drawn = group_of(3, num_tokens=5, max_tokens=5, n=2, temperature=0.5)
    groups = (dead_beams, dead, dead_drawn, alive)
    sampled = [(sequence,) for group in groups for sequence in group.sequences]
    samples = decode(LOGITS, sampled, with_logprobs=False)
    assert samples.sequences == alive.sequences
    assert samples.tokens == [LOGITS[5].argmax().item()]
    assert samples.logprobs == [0.0]
    assert samples.beams == []


def test_one_row_may_serve_several_greedy_sequences():
    two = group_of(0, n=2)
    dead = group_of(1, num_tokens=8)
    samples = decode(LOGITS[:2], [tuple(two.sequences), tuple(dead.sequences)], with_logprobs=False)
    assert samples.tokens == [LOGITS[0].argmax().item()] * 2


def test_log_probabilities_ignore_temperature_and_filters():
    group = group_of(0, temperature=0.3, top_k=2)
    samples = decode(LOGITS[:1], [tuple(group.sequences)], with_logprobs=True)
    (token,) = samples.tokens
    assert samples.logprobs == pytest.approx([LOGITS[0].log_softmax(-1)[token].item()])


@pytest.mark.parametrize("with_logprobs", [False, True])
def test_the_order_of_methods_does_not_depend_on_what_is_computed(with_logprobs):
    drawn, beams, plain = group_of(1, temperature=1.0), group_of(2, beam_width=2), group_of(0)
    sampled = [tuple(group.sequences) for group in (drawn, beams, plain)]
    samples = decode(LOGITS[:3], sampled, with_logprobs=with_logprobs)
    assert samples.sequences == [*plain.sequences, *drawn.sequences]
    assert samples.tokens == [LOGITS[2].argmax().item(), *tokens_alone(0, drawn)]
    assert samples.beams == beams_alone(1, beams)


def test_logits_are_made_for_those_only_that_need_them():
    drawn, beams, plain = group_of(1, n=2, temperature=1.0), group_of(2, beam_width=2), group_of(0)
    sampled = [tuple(group.sequences) for group in (plain, drawn, beams)]
    head = Plain()
    decode(LOGITS[:3], sampled, with_logprobs=False, head=head)
    assert head.asked == [("greedy", 1), ("logits", 2)]
    head = Plain()
    decode(LOGITS[:1], sampled[:1], with_logprobs=False, head=head)
    assert head.asked == [("greedy", 1)]
    head = Plain()
    decode(LOGITS[:3], sampled, with_logprobs=True, head=head)
    assert head.asked == [("logits", 3)]


def test_a_clients_seed_counts_and_not_the_number_of_its_request():
    def drawn(request_id, **fields):
        group = group_of(request_id, temperature=2.0, **fields)
        return tokens_alone(0, group)

    rows = [drawn(i, seed=7, random_id=0) for i in range(5)]
    assert rows == rows[:1] * 5
    assert len({tuple(drawn(i, seed=7)) for i in range(20)}) > 1


def test_logprobs_are_there_if_one_sequence_wants_them():
    for wants, n in ((False, 1), (True, 1), (True, 2)):
        group = group_of(0, n=n, temperature=1.0, logprobs=wants)
        groups = SamplingGroups([tuple(group.sequences), tuple(group_of(1).sequences)])
        assert groups.inputs().with_logprobs is wants
