"""The law of ancestry."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from execution.groups import PROMPT_LEN, group_of
from pagedbench.scheduling.batch import Batch, Prefill
from pagedbench.scheduling.samples import Samples
from pagedbench.simulation.executor import BEST_PARENT_PROBABILITY, Simulated


def batch_of(started=(), decoding=()):
    """An iteration in which groups begin, and others have grown by a token."""
    return Batch(
        step=0,
        prefills=[Prefill(group.sequences[0], 0, PROMPT_LEN, tuple(group.sequences)) for group in started],
        decodes=[sequence for group in decoding for sequence in group.sequences],
        decode_context=0,
        num_running=0,
        num_waiting=0,
        decode_step=None,
    )


def grow(*groups):
    for group in groups:
        for sequence in group.sequences:
            sequence.extend()


def ancestry(group, seed=0):
    """The parents of every step of a group that is alone."""
    executor = Simulated(seed)
    (step,) = executor.execute(batch_of(started=[group])).beams
    parents = [step.parents]
    for _ in range(group.request.reply_len - 1):
        grow(group)
        (step,) = executor.execute(batch_of(decoding=[group])).beams
        assert step.group is group
        assert step.tokens == step.scores == []
        parents.append(step.parents)
    return parents


def test_without_beams_nothing_is_decided():
    executor, groups = Simulated(), [group_of(0), group_of(1, n=3, temperature=1.0)]
    assert executor.execute(batch_of(started=groups)) == Samples()
    grow(*groups)
    assert executor.execute(batch_of(decoding=groups)) == Samples()


def test_at_first_every_beam_continues_itself():
    assert ancestry(group_of(beam_width=4))[0] == [0, 1, 2, 3]


def test_a_single_beam_has_no_choice():
    assert ancestry(group_of(beam_width=1)) == [[0]] * 8


@pytest.mark.parametrize("width", [2, 3, 6])
def test_each_but_the_best_gives_itself_up_with_the_same_probability(width):
    steps = np.array([ancestry(group_of(number, beam_width=width))[1:] for number in range(500)])
    assert not steps[..., 0].any(), "the best continues itself"
    assert (np.diff(steps, axis=-1) >= 0).all(), "beams are ranked as their parents were"
    others = np.arange(1, width)
    for parent in others:
        assert ((steps == parent).sum(axis=-1) <= 1).all(), "only the best has several children"
    survived = (steps[..., None] == others).any(axis=-2)  # [num_groups, num_steps, width - 1]
    for count in survived.sum(axis=(0, 1)):
        total = survived.shape[0] * survived.shape[1]
        assert stats.binomtest(int(count), total, 1 - BEST_PARENT_PROBABILITY).pvalue > 0.01
    assert Simulated.best_parent_probability == BEST_PARENT_PROBABILITY


def test_seed_request_and_position_decide():
    one = ancestry(group_of(0, beam_width=6, max_tokens=12))
    assert one == ancestry(group_of(0, beam_width=6, max_tokens=12))
    assert one != ancestry(group_of(1, beam_width=6, max_tokens=12))
    assert one != ancestry(group_of(0, beam_width=6, max_tokens=12), seed=1)
    assert len(set(map(tuple, one))) > 4


def test_company_order_and_pauses_change_nothing():
    wide, narrow, plain = group_of(0, beam_width=4), group_of(1, beam_width=2), group_of(2)
    alone = {0: ancestry(group_of(0, beam_width=4)), 1: ancestry(group_of(1, beam_width=2))}
    executor, found = Simulated(), {0: [], 1: []}

    def execute(**groups):
        for step in executor.execute(batch_of(**groups)).beams:
            found[step.group.request.request_id].append(step.parents)

    execute(started=[wide, plain])
    grow(wide, plain)
    execute(started=[narrow], decoding=[plain, wide])
    for _ in range(3):  # the wide group is on the host
        grow(narrow, plain)
        execute(decoding=[narrow, plain])
    grow(wide)  # and was preempted: prompt and reply are computed again
    execute(started=[wide])
    while len(found[0]) < 8 or len(found[1]) < 8:
        groups = [group for group, number in ((narrow, 1), (wide, 0)) if len(found[number]) < 8]
        grow(*groups)
        execute(decoding=groups)
    assert found == alone


def test_ended_beams_of_a_closed_batch_have_no_more_steps():
    short, long = group_of(0, beam_width=2, max_tokens=2), group_of(1, beam_width=2)
    executor = Simulated()
    executor.execute(batch_of(started=[short, long]))
    grow(short, long)
    assert len(executor.execute(batch_of(decoding=[short, long])).beams) == 2
    grow(long)
    assert [step.group for step in executor.execute(batch_of(decoding=[short, long])).beams] == [long]
    single = group_of(2, beam_width=2, max_tokens=1)
    assert len(executor.execute(batch_of(started=[single])).beams) == 1
    assert executor.execute(batch_of(decoding=[single])) == Samples()


def test_a_prompt_in_chunks_has_no_step_before_its_end():
    group = group_of(beam_width=2)
    part = Batch(0, [Prefill(group.sequences[0], 0, 2, ())], (), 0, 0, 0, None)
    assert Simulated().execute(part) == Samples()
