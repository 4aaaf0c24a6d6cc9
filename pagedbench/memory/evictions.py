"""The policies of `--eviction` besides LRU: order, number of uses, work saved, time, foresight."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections import OrderedDict, deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from pagedbench.memory.eviction import CachedBlock, EvictionPolicy, Lru

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Sequence as Items

    from pagedbench.memory.prefix import Key

Rank: TypeAlias = "tuple[float, ...]"

TIME_TO_LIVE = 300.0
"""Seconds, as for cached prompts of commercial services (5 minutes)."""

ATTENTION_EQUALS_REST = 24_576
"""Context length at which a token's attention costs as much as the rest: 6 x hidden size 4096 (7-8 B)."""


class Ranked(EvictionPolicy):
    """Evicts the block of the lowest rank; among equals, the one that has been idle for longest."""

    def __init__(self) -> None:
        self._heap: list[tuple[Rank, int, CachedBlock]] = []  # with entries of blocks that are not idle
        self._entries: dict[CachedBlock, tuple[Rank, int, CachedBlock]] = {}
        self._num_added = 0

    @abstractmethod
    def ranks(self, blocks: Items[CachedBlock]) -> Iterable[Rank]:
        """The ranks of blocks that become idle; a block keeps its rank while it is idle."""

    def add(self, blocks: Items[CachedBlock]) -> None:
        for block, rank in zip(blocks, self.ranks(blocks), strict=True):
            self._num_added += 1
            entry = self._entries[block] = (rank, self._num_added, block)
            heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + 1000:
            self._heap = list(self._entries.values())
            heapify(self._heap)

    def remove(self, blocks: Items[CachedBlock]) -> None:
        for block in blocks:
            del self._entries[block]

    def evict(self, number: int) -> list[CachedBlock]:
        chosen: list[CachedBlock] = []
        while len(chosen) < number:
            entry = heappop(self._heap)
            if self._entries.get(entry[2]) is entry:
                del self._entries[entry[2]]
                chosen.append(entry[2])
        return chosen


class Fifo(Ranked):
    """First in, first out: the content that was computed first, no matter how often it was found."""

    def ranks(self, blocks: Items[CachedBlock]) -> Iterable[Rank]:
        return [(block.order,) for block in blocks]


class Lfu(Ranked):
    """Least frequently used: used by the fewest requests; among equals, the least recently."""

    def ranks(self, blocks: Items[CachedBlock]) -> Iterable[Rank]:
        return [(block.num_uses,) for block in blocks]


class Slru(EvictionPolicy):
    """Segmented LRU (Karedla et al. 1994): blocks that were found again outlive those used once.

    The protected segment holds at most four fifths of the idle blocks; the least recent of them go back
    to the other segment.
    """

    protected_share = 0.8

    def __init__(self) -> None:
        self._probation: OrderedDict[CachedBlock, None] = OrderedDict()
        self._protected: OrderedDict[CachedBlock, None] = OrderedDict()

    def add(self, blocks: Items[CachedBlock]) -> None:
        probation, protected = self._probation, self._protected
        for block in blocks:
            (protected if block.num_uses > 1 else probation)[block] = None
        most = int(self.protected_share * (len(probation) + len(protected)))
        while len(protected) > most:
            probation[protected.popitem(last=False)[0]] = None

    def remove(self, blocks: Items[CachedBlock]) -> None:
        for block in blocks:
            del (self._protected if block in self._protected else self._probation)[block]

    def evict(self, number: int) -> list[CachedBlock]:
        first = min(number, len(self._probation))
        chosen = [self._probation.popitem(last=False)[0] for _ in range(first)]
        return chosen + [self._protected.popitem(last=False)[0] for _ in range(number - first)]


class S3Fifo(EvictionPolicy):
    """S3-FIFO (Yang et al., SOSP 2023): a small queue for new blocks, a main queue, and ghosts.

    A block at the end of the small queue moves to the main queue if it was found twice; otherwise it is
    evicted and its key remembered (a ghost): computed again, it starts in the main queue. At the end of
    the main queue, a block that was found goes round again. Blocks with an owner stay where they are.
    """

    small_share = 0.1

    def __init__(self) -> None:
        self._small: deque[CachedBlock] = deque()
        self._main: deque[CachedBlock] = deque()
        self._seen: dict[CachedBlock, int] = {}  # for blocks in the queues: uses that no longer count
        self._idle: set[CachedBlock] = set()
        self._ghosts: OrderedDict[Key, None] = OrderedDict()

    def add(self, blocks: Items[CachedBlock]) -> None:
        for block in blocks:
            if block not in self._seen:
                self._seen[block] = block.num_uses
                (self._main if block.key in self._ghosts else self._small).append(block)
                self._ghosts.pop(block.key, None)
        self._idle.update(blocks)

    def remove(self, blocks: Items[CachedBlock]) -> None:
        self._idle.difference_update(blocks)

    def evict(self, number: int) -> list[CachedBlock]:
        chosen: list[CachedBlock] = []
        num_owned = 0  # blocks with an owner that were passed over in a row
        while len(chosen) < number:
            is_large = len(self._small) > self.small_share * len(self._seen)
            is_new = bool(self._small) and (is_large or num_owned >= len(self._main))
            block = (self._small if is_new else self._main).popleft()
            num_hits = min(block.num_uses - self._seen[block], 3)
            num_owned = 0 if block in self._idle else num_owned + 1
            if num_owned:
                self._main.append(block)
            elif num_hits > (1 if is_new else 0):
                self._seen[block] = block.num_uses - (0 if is_new else num_hits - 1)
                self._main.append(block)
            else:
                chosen.append(block)
                self._idle.remove(block)
                del self._seen[block]
                if is_new:
                    self._ghosts[block.key] = None
        while len(self._ghosts) > (1 - self.small_share) * len(self._seen):
            self._ghosts.popitem(last=False)
        return chosen


class Gdsf(Ranked):
    """Greedy-Dual-Size-Frequency (Cherkasova 1998): the least work saved per byte, uses x cost / size.

    The cost of a block is the work of computing its tokens: one unit per token for all that does not
    depend on the context, and one per ATTENTION_EQUALS_REST pairs of attention. All tokens have the same
    size. A request that uses a block uses those before it too, so a block's value is at least that of the
    blocks after it. The value of the block evicted last is added to those of blocks that become idle
    later, so that old uses lose their weight.
    """

    def __init__(self) -> None:
        super().__init__()
        self._age = 0.0

    def ranks(self, blocks: Items[CachedBlock]) -> Iterable[Rank]:
        worth, ranks = 0.0, []
        for block in blocks:
            context = block.start + (block.num_tokens + 1) / 2  # tokens that one of its tokens attends to
            worth = max(worth, block.num_uses * (1 + context / ATTENTION_EQUALS_REST))
            ranks.append((self._age + worth,))
        return ranks

    def evict(self, number: int) -> list[CachedBlock]:
        chosen: list[CachedBlock] = []
        for _ in range(number):
            while self._entries.get(self._heap[0][2]) is not self._heap[0]:
                heappop(self._heap)
            self._age = self._heap[0][0][0]
            chosen += super().evict(1)
        return chosen


class Ttl(Lru):
    """Contents expire after a time without use, even if no block is needed; otherwise LRU."""

    def __init__(self, seconds: float = TIME_TO_LIVE) -> None:
        super().__init__()
        self.seconds = seconds

    def expired(self, now: float) -> list[CachedBlock]:
        chosen: list[CachedBlock] = []
        while self._idle and now - next(iter(self._idle)).idle_since > self.seconds:
            chosen += self.evict(1)
        return chosen


class Belady(Ranked):
    """The block whose next use is the farthest away; among equals, the deepest (Belady 1966).

    It knows the prompts of the trace in order of arrival, but not which preempted requests will look up
    their prompts again. As long as no block has an owner, no policy finds more; blocks with an owner cannot
    be evicted, so in an engine it is not a strict bound.
    """

    sees_future: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._future: dict[int, Items[Key]] = {}  # keys of the requests that are not yet admitted
        self._uses: dict[Key, list[int]] = {}  # the requests that use a key, the next one last
        self._by_key: dict[Key, CachedBlock] = {}

    def foresee(self, prompts: Mapping[int, Items[Key]]) -> None:
        self._future = dict(prompts)
        for request_id in reversed(self._future):
            for key in self._future[request_id]:
                self._uses.setdefault(key, []).append(request_id)

    def admitted(self, request_id: int) -> None:
        keys = self._future.pop(request_id, ())
        blocks = [self._by_key[key] for key in reversed(keys) if key in self._by_key]
        self.remove(blocks)
        self.add(blocks)  # with their next uses after this one

    def ranks(self, blocks: Items[CachedBlock]) -> Iterable[Rank]:
        return [(-self._next_use(block.key), -block.start) for block in blocks]

    def _next_use(self, key: Key) -> float:
        uses = self._uses.get(key, [])
        while uses and uses[-1] not in self._future:
            uses.pop()
        return uses[-1] if uses else math.inf

    def add(self, blocks: Items[CachedBlock]) -> None:
        super().add(blocks)
        self._by_key.update((block.key, block) for block in blocks)

    def remove(self, blocks: Items[CachedBlock]) -> None:
        super().remove(blocks)
        for block in blocks:
            del self._by_key[block.key]

    def evict(self, number: int) -> list[CachedBlock]:
        chosen = super().evict(number)
        for block in chosen:
            del self._by_key[block.key]
        return chosen


EVICTIONS: dict[str, type[EvictionPolicy]] = {
    "lru": Lru,
    "fifo": Fifo,
    "lfu": Lfu,
    "slru": Slru,
    "s3-fifo": S3Fifo,
    "gdsf": Gdsf,
    "ttl": Ttl,
    "belady": Belady,
}
"""The policies by the names of `--eviction`, the default first."""


def ttl_of(name: str) -> Ttl | None:
    """The policy of a name like `ttl:60s` or `ttl:500ms`; None if it is another name.

    Raises:
        ValueError: the time cannot be read, in one sentence.
    """
    word, colon, time = name.partition(":")
    if word != "ttl" or not colon:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s)", time)
    if match is None or not float(match[1]):
        raise ValueError(f"the time to live of {name!r} is a number above 0 with its unit, as in ttl:60s")
    return Ttl(float(match[1]) * {"ms": 1e-3, "s": 1.0}[match[2]])
