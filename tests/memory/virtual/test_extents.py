"""Pages behind virtual extents: their arithmetic, who gets them, when they are given back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.contents import group_of
from pagedbench.memory.manager import Allocation
from pagedbench.memory.moves import Copy, Pool
from pagedbench.memory.pages import KeptPages, PageChanges, PageRun, PageSpec
from pagedbench.memory.virtual.extents import VirtualExtents
from pagedbench.memory.virtual.page_pool import PagePool
from pagedbench.request import DecodeCounter

KIB = 1024


def pool_of(num_pages: int, *, ahead: int = 0, kept: KeptPages = KeptPages.REUSE) -> PagePool:
    """Pages of four tokens, 8 in an extent; at most 4 extents."""
    return PagePool(PageSpec(1, 4, ahead, kept, max_extents=4), num_pages, 8)


@given(
    row=st.integers(1, 9000), page=st.sampled_from([4 * KIB, 64 * KIB, 2048 * KIB]), n=st.integers(1, 3000)
)
def test_pages_hold_as_many_tokens_as_their_bytes_say(row: int, page: int, n: int) -> None:
    spec = PageSpec(row, page)
    k = spec.num_pages(n)
    assert k * page >= n * row > (k - 1) * page
    assert spec.num_tokens(k) >= n > spec.num_tokens(k - 1)


def test_extents_begin_with_a_page_and_hold_the_longest_sequence() -> None:
    """Rows of 1.5 KiB: three pages of 4 KiB hold 8 tokens, and an extent a multiple of that."""
    memory = VirtualExtents(1600, 16, 100, pages=PageSpec(1536, 4 * KIB, max_extents=5))
    assert memory.extent_len == 112
    assert memory.pages.extent_pages * 4 * KIB == 112 * 1536
    assert (memory.pages.num_pages, memory.pages.num_addresses) == (600, 5 * 112)


def test_a_pool_that_ends_within_a_page_counts_the_rest_as_rounding() -> None:
    memory = VirtualExtents(1000, 1, 100, pages=PageSpec(1536, 2048 * KIB))
    assert memory.pages.num_pages == 0
    assert memory.can_allocate(group_of(0, 1, 1)) is Allocation.NEVER
    memory = VirtualExtents(1500, 1, 100, pages=PageSpec(1536, 2048 * KIB))
    usage = memory.usage(head_refused=False)
    assert (usage.free, usage.rounding, usage.capacity) == (1365, 135, 1500)


@pytest.mark.parametrize(("num_tokens", "n", "answer"), [(13, 2, "OK"), (14, 2, "NEVER"), (25, 1, "OK")])
def test_never_counts_each_sequence_in_full(num_tokens: int, n: int, answer: str) -> None:
    """Six pages of four tokens; a reply's last token is never stored, and nothing is shared."""
    memory = VirtualExtents(24, 4, 60, watermark=0.0)
    group = group_of(0, num_tokens - 5, 5, n)
    assert memory.can_allocate(group) is Allocation[answer]


def test_a_fork_is_copied_when_the_child_grows() -> None:
    memory, group = VirtualExtents(64, 4, 16), group_of(0, 6, 8, 2)
    assert memory.allocate(group) == [0, 0]
    counter, (parent, child) = DecodeCounter(), group.sequences
    for sequence in group.sequences:
        sequence.start(counter)
    assert memory.fork(parent, child) == []
    assert (memory.room(parent), memory.room(child)) == (2, 0)
    assert memory.append(child) == [Copy(memory.placement(parent).start, memory.placement(child).start, 6)]
    assert (memory.room(child), memory.append(child)) == (2, [])


def test_a_fork_that_is_swapped_out_before_it_is_copied_moves_its_parents_tokens() -> None:
    """Both share the parent's blocks on the host, and have their own again when they are back."""
    memory, group = VirtualExtents(64, 4, 16), group_of(0, 6, 8, 2)
    memory.allocate(group)
    parent, child = group.sequences
    start = memory.placement(parent).start
    memory.fork(parent, child)
    moves = memory.swap_out(group)
    assert [(move.source, move.num_slots) for move in moves] == [(start, 4), (start + 4, 2)]
    assert memory.num_owned == 0
    back = memory.swap_in(group)
    memory.check_integrity()
    places = {memory.placement(sequence).start for sequence in group.sequences}
    assert len(places) == 2
    assert {(move.source_pool, move.destination_pool) for move in back} == {(Pool.HOST, Pool.DEVICE)}
    assert sorted(move.destination for move in back) == sorted([*places, *(place + 4 for place in places)])
    assert memory.room(child) == 2  # nothing is left to be copied


def test_pages_are_committed_with_need_and_kept_for_the_next_owner() -> None:
    pool = pool_of(8)
    first, second = pool.open(2), pool.open(1)
    assert pool.take_changes() == PageChanges([], [PageRun(0, 2), PageRun(8, 1)], [])
    pool.close(first)
    pool.close(second)
    assert pool.take_changes() == PageChanges([], [], [])
    assert (pool.num_free, pool.num_committed) == (8, 3)
    assert pool.open(3) == first  # whose pages are nearest to what is needed
    assert pool.take_changes() == PageChanges([], [PageRun(2, 1)], [])
    assert (pool.counts.committed, pool.counts.reused, pool.counts.peak) == (4, 2, 4)


def test_the_longest_idle_pages_are_given_back_when_memory_is_short() -> None:
    pool = pool_of(6)
    first, second, third = pool.open(2), pool.open(2), pool.open(1)
    pool.take_changes()
    pool.close(second)
    pool.close(first)
    pool.grow(third, 1)
    assert pool.take_changes().given_back == []  # a sixth page was left
    pool.grow(third, 3)
    changes = pool.take_changes()
    assert changes.given_back == [PageRun(1, 1), PageRun(8, 2)]
    assert changes.committed == [PageRun(18, 3)]
    pool.check_integrity({third: 5})


def test_pages_of_an_owner_that_it_does_not_need_serve_others() -> None:
    pool = pool_of(6, ahead=8)
    first = pool.open(1)
    pool.take_changes()
    second = pool.open(4)  # the first has one page and two ahead
    assert pool.take_changes() == PageChanges([PageRun(2, 1)], [PageRun(8, 4)], [])
    pool.check_integrity({first: 1, second: 4})


def test_late_pages_are_not_for_the_next_owner() -> None:
    pool = pool_of(4, kept=KeptPages.LATE)
    first = pool.open(2)
    pool.take_changes()
    pool.close(first)
    assert pool.open(2) == 1
    assert (pool.num_committed, pool.counts.reused) == (4, 0)
    pool.grow(1, 1)
    assert pool.take_changes() == PageChanges([PageRun(1, 1)], [PageRun(8, 3)], [])


def test_what_was_never_used_is_not_committed() -> None:
    pool = pool_of(4)
    pool.close(pool.open(2))
    assert pool.take_changes() == PageChanges([], [], [])
    pool.check_integrity({})


def test_pages_that_are_not_kept_are_given_back_at_once() -> None:
    pool = pool_of(8, kept=KeptPages.NONE)
    extent = pool.open(2)
    pool.take_changes()
    pool.close(extent)
    assert pool.take_changes() == PageChanges([PageRun(0, 2)], [], [])
    assert pool.num_committed == 0


def test_a_run_of_pages_is_committed_ahead_when_the_last_one_is_used_up() -> None:
    pool = pool_of(16, ahead=8)
    extent = pool.open(2)
    assert pool.take_changes() == PageChanges([], [PageRun(0, 2)], [PageRun(2, 2)])
    pool.grow(extent, 1)
    assert pool.take_changes() == PageChanges([], [], [])
    pool.grow(extent, 1)
    assert pool.take_changes() == PageChanges([], [], [PageRun(4, 2)])
    pool.grow(extent, 3)  # more than was committed
    assert pool.take_changes() == PageChanges([], [PageRun(6, 1)], [PageRun(7, 1)])  # the extent ends
    assert (pool.counts.committed, pool.counts.ahead) == (3, 5)


def test_nothing_is_given_back_for_pages_ahead_of_need() -> None:
    pool = pool_of(4, ahead=16)
    first = pool.open(3)
    assert pool.take_changes() == PageChanges([], [PageRun(0, 3)], [PageRun(3, 1)])
    pool.close(first)
    second = pool.open(4)
    assert pool.take_changes() == PageChanges([], [], [])
    pool.check_integrity({second: 4})
