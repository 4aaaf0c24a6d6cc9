"""FasterTransformer's batches, by the authors' driver."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pagedbench.memory.contiguous import EqualExtents
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, Status
from pagedbench.scheduling.batch import BlockedBy
from pagedbench.scheduling.request_level import RequestLevel
from pagedbench.scheduling.samples import Samples
from pagedbench.scheduling.scheduler import Limits


def scheduler_of(
    lengths: list[tuple[int, int]], *, batch_size: int, extent_len: int = 100, widths: tuple[int, ...] = ()
) -> RequestLevel:
    memory = EqualExtents(batch_size * extent_len, 1, extent_len, batch_size)
    scheduler = RequestLevel(memory, Limits())
    for i, (prompt_len, output_len) in enumerate(lengths):
        n = widths[i] if widths else 1
        scheduler.add(Request(i, 0.0, Prompt(prompt_len), SamplingParams(output_len, n)))
    return scheduler


def test_the_batch_runs_until_its_longest_reply_ends() -> None:
    scheduler = scheduler_of([(10, 3), (20, 6), (5, 1)], batch_size=2)
    history, finished = [], []
    while scheduler.has_unfinished:
        batch = scheduler.schedule()
        scheduler.memory.check_integrity()
        history.append((len(batch.prefills), len(batch.decodes), batch.num_dead, batch.decode_context))
        usage = scheduler.memory.usage(head_refused=batch.blocked_by.is_memory)
        assert usage.token_states == sum(
            sequence.num_stored for group in scheduler.running.values() for sequence in group.sequences
            if group.status is Status.RUNNING and group not in scheduler._ended
        )  # fmt: skip
        scheduler.update(batch, Samples())
        finished.append([group.order for group in scheduler.take_finished()])
    assert history == [
        (2, 0, 0, 0), (0, 2, 0, 42), (0, 2, 0, 44), (0, 2, 1, 46),
        (0, 2, 1, 48), (0, 2, 1, 50), (1, 0, 0, 0),
    ]  # fmt: skip
    assert finished == [[], [], [], [], [], [0, 1], [2]]


def test_prompts_are_padded_to_the_longest() -> None:
    batch = scheduler_of([(10, 3), (20, 6)], batch_size=4).schedule()
    assert batch.padded_len == 20
    assert (batch.num_prefill_tokens, batch.num_computed_prefill_tokens) == (30, 40)


def test_the_batch_closes_at_the_first_that_would_make_it_too_long() -> None:
    scheduler = scheduler_of([(50, 10), (10, 42), (10, 43), (1, 1)], batch_size=4)
    assert len(scheduler.schedule().prefills) == 2  # 50 + 42 = 100 - 8 still fits, 50 + 43 does not
    assert len(scheduler.waiting) == 2


def test_a_batch_has_no_more_sequences_than_an_iteration_may() -> None:
    memory = EqualExtents(800, 1, 100, batch_size=8)
    scheduler = RequestLevel(memory, Limits(max_num_seqs=8))
    for i in range(5):
        scheduler.add(Request(i, 0.0, Prompt(10), SamplingParams(3, n=3)))
    sizes = []
    while scheduler.has_unfinished:
        batch = scheduler.schedule()
        sizes += [len(batch.prefills)] if batch.prefills else []
        scheduler.update(batch, Samples())
        scheduler.take_finished()
    assert sizes == [6, 6, 3]


def test_a_lone_request_may_fill_its_extent() -> None:
    scheduler = scheduler_of([(50, 50), (1, 1), (50, 51)], batch_size=4)
    assert [group.status for group in scheduler.take_finished()] == [Status.FAILED]
    assert len(scheduler.schedule().prefills) == 1


def test_nobody_joins_a_batch_that_runs() -> None:
    scheduler = scheduler_of([(10, 3)], batch_size=4)
    scheduler.update(scheduler.schedule(), Samples())
    scheduler.add(Request(1, 0.0, Prompt(4), SamplingParams(4)))
    batch = scheduler.schedule()
    assert (len(batch.prefills), len(batch.decodes), batch.num_waiting) == (0, 1, 1)
    assert batch.blocked_by is BlockedBy.POLICY  # a closed batch, not memory, holds the head back


def test_a_batch_closes_where_the_number_of_samples_changes() -> None:
    scheduler = scheduler_of([(10, 2)] * 5, batch_size=4, widths=(2, 2, 1, 2, 2))
    sizes = []
    while scheduler.has_unfinished:
        batch = scheduler.schedule()
        scheduler.memory.check_integrity()
        assert not batch.blocked_by.is_memory  # not memory, but a closed batch
        if batch.prefills:
            sizes.append((batch.num_running, len(batch.prefills), scheduler.memory.extent_len))
            assert batch.num_computed_prefill_tokens == 10 * len(batch.prefills)
        scheduler.update(batch, Samples())
        scheduler.take_finished()
    assert sizes == [(2, 4, 50), (1, 1, 100), (2, 4, 50)]


def test_ended_samples_are_computed_to_the_end_of_the_batch() -> None:
    scheduler = scheduler_of([(10, 3), (10, 2)], batch_size=2, widths=(3, 3))
    history = []
    while scheduler.has_unfinished:
        batch = scheduler.schedule()
        history.append((len(batch.prefills), len(batch.decodes), batch.num_dead, batch.decode_context))
        scheduler.update(batch, Samples())
        scheduler.take_finished()
    assert history == [(6, 0, 0, 0), (0, 6, 0, 66), (0, 6, 3, 72)]


@settings(max_examples=100)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=20),
    batch_size=st.integers(1, 6),
)
def test_everybody_gets_exactly_their_tokens(lengths: list[tuple[int, int]], batch_size: int) -> None:
    scheduler = scheduler_of(lengths, batch_size=batch_size)
    groups = []
    for _ in range(5000):
        if not scheduler.has_unfinished:
            break
        scheduler.update(scheduler.schedule(), Samples())
        scheduler.memory.check_integrity()
        groups += scheduler.take_finished()
    assert sorted(group.order for group in groups) == list(range(len(lengths)))
    for group in groups:
        prompt_len, output_len = lengths[group.order]
        fits = prompt_len + output_len <= 100
        assert group.status is (Status.FINISHED if fits else Status.FAILED)
        assert sum(1 + span.last - span.first for span in group.spans) == (output_len if fits else 0)
    assert scheduler.memory.usage(head_refused=False).free == scheduler.memory.num_slots
