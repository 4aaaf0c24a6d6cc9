"""Where evicted blocks go, and when a block of a tier may be reused."""

from __future__ import annotations

from memory.contents import Contents, LateDisk, group_of
from pagedbench.memory.moves import Copy, Pool
from pagedbench.memory.paged import Paged
from pagedbench.memory.tier import Tier
from pagedbench.memory.tiers import Tiers


class PromptDisk(LateDisk):
    """A disk that has always room, and has read as soon as it is asked."""

    room = 10**6

    def poll(self) -> bool | None:
        if not self._read:
            return None
        self._contents.copy(self._read)
        self._read = []
        return True


def out(block: int, place: int) -> Copy:
    return Copy(block, place, 1, Pool.DEVICE, Pool.HOST_CACHE)


def test_the_least_recently_needed_is_replaced_but_not_in_the_same_iteration() -> None:
    tier = Tier(2)
    for key, block in ((1, 0), (2, 1)):
        assert tier.take() == (block, None)
        tier.put(key, block)
    tier.need(1)
    tier.touch(2)
    assert tier.take() == (0, 1)
    assert tier.take() is None
    tier.end_iteration()
    assert tier.take() == (1, 2)


def test_blocks_go_to_the_host_and_once_more_than_it_holds_they_are_lost() -> None:
    tiers = Tiers(1, host_blocks=2, disk_blocks=0, landing_blocks=9)
    for key in range(4):
        tiers.store(key, 10 + key)
    assert tiers.take_moves() == ([out(10, 0), out(11, 1)], [])  # no block is written twice at once
    assert (tiers.find([0, 1, 2]), tiers.counts.dropped) == (2, 2)
    tiers.store(4, 14)  # in the next iteration the least recent makes room
    assert tiers.take_moves() == ([out(14, 0)], [])
    assert (tiers.find([0]), tiers.find([1]), tiers.find([4])) == (0, 1, 1)


def test_what_is_on_the_host_already_is_not_moved_again() -> None:
    tiers = Tiers(1, host_blocks=2, disk_blocks=0, landing_blocks=9)
    tiers.store(7, 3)
    tiers.take_moves()
    tiers.promote(tiers.claim([7]), [5])
    assert tiers.take_moves() == ([], [Copy(0, 5, 1, Pool.HOST_CACHE, Pool.DEVICE)])
    tiers.store(7, 5)
    assert tiers.take_moves() == ([], [])
    assert tiers.counts.host_hits == 1


def test_a_claimed_block_is_not_reused_before_it_is_read() -> None:
    tiers = Tiers(1, host_blocks=1, disk_blocks=0, landing_blocks=9)
    tiers.store(7, 3)
    tiers.take_moves()
    claimed = tiers.claim([7])
    tiers.store(8, 4)  # makes room on the device for the block that comes back
    tiers.promote(claimed, [4])
    evictions, promotions = tiers.take_moves()
    assert evictions == []
    assert promotions == [Copy(0, 4, 1, Pool.HOST_CACHE, Pool.DEVICE)]


def test_the_head_waits_for_the_disk_and_finds_its_prompt_on_the_host() -> None:
    contents = Contents()
    memory = Paged(8, 2, 16, prefix_caching=True, host_cache_slots=4, disk_cache_slots=40)
    assert memory.tiers is not None
    memory.tiers.disk = PromptDisk(contents)
    groups = [group_of(i, 1, 1, shared_len=6, text=i % 2) for i in range(4)]
    cached = []
    for group in groups[:3]:
        assert memory.can_allocate(group).value == "ok"
        if not memory.is_ready(group):
            assert memory.is_ready(group)  # it has been read
        cached.append(memory.allocate(group)[0])
        sequence = group.sequences[0]
        memory.mark_computed(sequence, 7)
        memory.take_moves()
        memory.check_integrity()
        memory.free(sequence)
    assert cached == [0, 0, 4]  # the host has room for two blocks of the three
    counts = memory.tiers.counts
    assert (counts.disk_hits + counts.host_hits, memory.num_prefix_hits) == (4, 4)
    assert counts.disk_to_host > 0
