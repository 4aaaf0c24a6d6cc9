"""Registered prefixes and the cache of prompts, by example."""

from __future__ import annotations

from memory.contents import group_of, text_of
from pagedbench.memory.manager import Allocation
from pagedbench.memory.paged import Paged
from pagedbench.memory.prefix import block_hashes, stored_contents
from pagedbench.prompt import Prompt, Segment
from pagedbench.request import DecodeCounter, Request, SamplingParams, SequenceGroup


def admit(memory: Paged, group: SequenceGroup) -> list[int]:
    assert memory.can_allocate(group) is Allocation.OK
    starts = memory.allocate(group)
    for sequence in group.sequences:
        memory.mark_computed(sequence, sequence.num_tokens)
    memory.check_integrity()
    return starts


def leave(memory: Paged, group: SequenceGroup) -> None:
    for sequence in group.sequences:
        memory.free(sequence)
    memory.check_integrity()


def test_a_hash_stands_for_all_tokens_up_to_its_block() -> None:
    text = block_hashes(Prompt(12, prefix=(Segment(0, 0, 12),)).contents(), 4)
    longer = block_hashes(Prompt(15, seed=9, prefix=(Segment(0, 0, 12),)).contents(), 4)
    other_start = block_hashes(Prompt(12, prefix=(Segment(1, 0, 4), Segment(0, 4, 8))).contents(), 4)
    other_block = block_hashes(Prompt(12, prefix=(Segment(0, 0, 8), Segment(1, 8, 4))).contents(), 4)
    assert len(text) == 3
    assert longer == text
    assert not set(other_start) & set(text)  # the same tokens in blocks 1 and 2, behind another beginning
    assert other_block[:2] == text[:2]
    assert other_block[2] != text[2]
    ids = tuple(range(8))
    assert block_hashes(Prompt(8, token_ids=ids).contents(), 4) != block_hashes(
        Prompt(8, token_ids=ids[::-1]).contents(), 4
    )


def test_a_prompt_is_found_again_and_one_token_is_left_to_compute() -> None:
    memory = Paged(160, 4, 128, prefix_caching=True)
    first, second = (group_of(i, 0, 5, shared_len=12) for i in range(2))
    assert admit(memory, first) == [0]
    blocks = memory.placement(first.sequences[0]).blocks
    leave(memory, first)
    assert memory.usage(head_refused=False).free == 160  # idle blocks are free to anybody
    assert memory.prefill_len(second) == 4
    assert admit(memory, second) == [8]
    assert memory.placement(second.sequences[0]).blocks[:2] == blocks[:2]
    assert (memory.num_prefix_hits, memory.num_prefix_queried) == (8, 24)


def run_to_the_end(memory: Paged, request: Request) -> int:
    """Serve one request alone. Returns how many tokens of its prompt were found."""
    group = SequenceGroup(request, order=0)
    start = admit(memory, group)[0]
    for sequence in group.sequences:
        counter = DecodeCounter()
        sequence.start(counter)
        for _ in range(request.reply_len - 1):
            memory.append(sequence)
            counter.count += 1
            memory.advance(1)
        sequence.stop()
    for sequence in group.sequences:
        memory.finish(sequence)
    memory.check_integrity()
    return start


def test_of_beams_only_the_prompt_is_kept() -> None:
    """The last step of a search moves no blocks, so a table may hold another beam's reply."""
    memory = Paged(1600, 4, 1024, prefix_caching=True)
    run_to_the_end(memory, Request(0, 0.0, Prompt(10, seed=5), SamplingParams(20, beam_width=2)))
    assert memory.pool.num_kept == 2
    run_to_the_end(memory, Request(1, 0.0, Prompt(10, seed=6), SamplingParams(20)))
    assert memory.pool.num_kept == 2 + 7


def test_the_next_turn_finds_the_prompt_and_the_reply() -> None:
    memory = Paged(1600, 4, 1024, prefix_caching=True)
    for position, (prompt_len, output_len) in enumerate(((10, 20), (37, 9), (50, 1), (60, 5))):
        request = Request(position, 0.0, Prompt(prompt_len, seed=5), SamplingParams(output_len))
        found = run_to_the_end(memory, request)
        # Of prompt + reply the last token is never stored, and only full blocks are found.
        assert found == (0, 28, 44, 48)[position]
    assert memory.usage(head_refused=False).free == 1600


def test_a_known_reply_of_the_trace_is_found_and_an_unknown_one_is_not() -> None:
    text = tuple(range(100, 160))
    for reply, expected in ((text[10:30], 28), ((), 8)):
        memory = Paged(1600, 4, 1024, prefix_caching=True)
        prompt = Prompt(10, token_ids=text[:10], reply_ids=reply)
        assert run_to_the_end(memory, Request(0, 0.0, prompt, SamplingParams(20))) == 0
        following = Request(1, 0.0, Prompt(40, token_ids=text[:40]), SamplingParams(3))
        assert run_to_the_end(memory, following) == expected


def test_the_replies_of_parallel_samples_differ() -> None:
    memory = Paged(1600, 4, 1024, prefix_caching=True)
    group = SequenceGroup(Request(0, 0.0, Prompt(8, seed=5), SamplingParams(9, n=3)), order=0)
    texts = {tuple(stored_contents(sequence).tolist()) for sequence in group.sequences}
    assert len(texts) == 1  # nothing but the prompt is stored yet
    admit(memory, group)
    counter = DecodeCounter()
    for sequence in group.sequences:
        sequence.start(counter)
    counter.count = 8
    texts = {tuple(stored_contents(sequence).tolist()) for sequence in group.sequences}
    assert len(texts) == 3


def test_a_running_prompt_is_shared_and_counted_once() -> None:
    memory = Paged(160, 4, 128, prefix_caching=True)
    groups = [group_of(i, 3, 5, n=2, shared_len=8) for i in range(2)]
    assert admit(memory, groups[0]) == [0, 11]
    assert admit(memory, groups[1]) == [8, 11]
    usage = memory.usage(head_refused=False)
    assert usage.token_states == 8 + 2 * 3
    assert usage.shared == (4 * 3 - 4) * 4


def test_the_end_of_a_prompt_is_forgotten_before_its_beginning() -> None:
    memory = Paged(24, 4, 128, prefix_caching=True)
    text = group_of(0, 0, 1, shared_len=20)
    admit(memory, text)
    leave(memory, text)
    other = group_of(1, 13, 1)  # 4 blocks: one is free, three are taken from the text
    assert admit(memory, other) == [0]
    leave(memory, other)
    assert memory.prefill_len(group_of(2, 0, 1, shared_len=20)) == 20 - 2 * 4


def test_an_idle_beginning_does_not_count_as_free_for_its_user() -> None:
    memory = Paged(24, 4, 128, prefix_caching=True)
    text = group_of(0, 0, 1, shared_len=16)
    admit(memory, text)
    leave(memory, text)
    admit(memory, group_of(1, 8, 1))  # two blocks are left free, four hold the text
    assert memory.can_allocate(group_of(2, 0, 1, shared_len=16)) is Allocation.OK
    assert memory.can_allocate(group_of(3, 4, 1, shared_len=16)) is Allocation.LATER


def test_a_registered_prefix_is_computed_once_and_stays() -> None:
    memory = Paged(80, 4, 128)
    memory.register_prefix(text_of(0, 10))  # two full blocks, the rest belongs to the prompts
    assert memory.num_owned == 0
    assert memory.usage(head_refused=False).free == 80 - 8
    first, second = (group_of(i, 6, 4, shared_len=10) for i in range(2))
    assert admit(memory, first) == [0]
    assert admit(memory, second) == [8]
    shared = memory.placement(first.sequences[0]).blocks[:2]
    assert memory.placement(second.sequences[0]).blocks[:2] == shared
    assert set(shared) == memory.index.pinned
    leave(memory, first)
    leave(memory, second)
    third = group_of(2, 6, 4, shared_len=10)
    assert admit(memory, third) == [8]
    assert memory.placement(third.sequences[0]).blocks[:2] == shared


def test_prefixes_that_begin_alike_share_their_pins() -> None:
    memory = Paged(80, 4, 128)
    memory.register_prefix(text_of(0, 8))
    memory.register_prefix(text_of(0, 12))
    assert len(memory.index.pinned) == 3
    memory.check_integrity()


def test_never_counts_the_pins_of_others() -> None:
    memory = Paged(32, 4, 128)
    memory.register_prefix(text_of(0, 8))
    assert memory.can_allocate(group_of(0, 16, 9, shared_len=8)) is Allocation.OK
    assert memory.can_allocate(group_of(1, 16, 10, shared_len=8)) is Allocation.NEVER
    assert memory.can_allocate(group_of(2, 16, 9)) is Allocation.OK
    assert memory.can_allocate(group_of(3, 16, 10)) is Allocation.NEVER


def test_pins_stay_on_the_device_when_their_user_is_swapped() -> None:
    memory = Paged(80, 4, 128)
    memory.register_prefix(text_of(0, 8))
    group = group_of(0, 5, 4, n=2, shared_len=8)
    admit(memory, group)
    assert len(memory.swap_out(group)) == 2  # the prompt's own two blocks, each once
    assert memory.num_owned == 0
    memory.check_integrity()
    assert len(memory.swap_in(group)) == 2  # and back, each once
    assert set(memory.placement(group.sequences[1]).blocks[:2]) == memory.index.pinned
    memory.check_integrity()
