"""The prefix cache alone: what it would find if requests took no time and held no memory."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pagedbench.memory.block_pool import BlockPool
from pagedbench.memory.prefix import PrefixIndex, continued_keys, prompt_keys
from pagedbench.prompt import Blocks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.memory.prefix import Key
    from pagedbench.prompt import Prompt
    from pagedbench.request import Request


class PromptBlocks(NamedTuple):
    """The blocks of a request, and the tokens in each of them.

    Attributes:
        keys: keys of all blocks that it leaves in the cache, from the first of its prompt on.
        prompt_len: tokens of the prompt, including those in none of the blocks.
        num_asked: how many of the blocks, from the first on, it looks up.
    """

    keys: Items[Key]
    num_tokens: Items[int]
    prompt_len: int
    num_asked: int


def full_blocks(requests: Iterable[Request], block_size: int) -> list[PromptBlocks]:
    """The full blocks of prompts and replies, as an engine with this block size keeps them.

    A prompt's last token is always computed, so the block that it fills is not looked up. A reply that is
    not in the trace has no equal.
    """
    blocks = []
    for request in requests:
        prompt = request.prompt
        keys = [*prompt_keys(prompt, block_size), *_reply_keys(request, block_size)]
        num_asked = (prompt.length - 1) // block_size
        blocks.append(PromptBlocks(keys, [block_size] * len(keys), prompt.length, num_asked))
    return blocks


def _reply_keys(request: Request, block_size: int) -> list[Key]:
    """Keys of the full blocks that end in the reply; its last token is never stored."""
    prompt, length = request.prompt, request.reply_len - 1
    num_more = (prompt.length + length) // block_size - prompt.length // block_size
    reply = prompt.reply_contents(length) if num_more else None
    if reply is None:
        return [f"{request.request_id} {number}".encode() for number in range(num_more)]
    return continued_keys(prompt, reply, block_size)[-num_more:]


def stored_blocks(prompts: Iterable[Prompt]) -> list[PromptBlocks]:
    """The blocks that a trace gives ids to, including the last, partial one of a prompt.

    Only tokens of these blocks count, and a partial block can also be found, as in the package
    kvcache-simulator 0.1.3.
    """
    blocks = []
    for prompt in prompts:
        first = prompt.prefix[0] if prompt.prefix else None
        assert isinstance(first, Blocks), "the trace gives no ids of blocks"
        ends = np.minimum(first.size * np.arange(1, len(first.ids) + 1), first.length).astype(np.int64)
        num_tokens = np.diff(ends, prepend=0).tolist()
        blocks.append(PromptBlocks(first.ids, num_tokens, first.length, len(first.ids)))
    return blocks


class HitRate(NamedTuple):
    """Tokens found, and tokens looked up."""

    num_hits: int
    num_queried: int

    @property
    def share(self) -> float:
        """0-1."""
        return self.num_hits / self.num_queried if self.num_queried else 0.0


@dataclass(frozen=True, slots=True)
class CacheResult:
    """Hits of a cache.

    Attributes:
        cold: over all requests; the cache is empty at first.
        warm: over the second half of the requests.
        is_full: was the cache full before the second half? If not, it was still filling during `warm`.
        num_evicted: blocks that lost their contents.
    """

    capacity: int
    cold: HitRate
    warm: HitRate
    is_full: bool
    num_evicted: int


def simulate_cache(requests: Items[PromptBlocks], capacity: int, policy: EvictionPolicy) -> CacheResult:
    """Send requests, in order, through a cache of `capacity` blocks.

    A request finds the longest cached prefix of its prompt. The missing blocks are computed and kept, and
    then blocks in excess of the capacity are evicted, perhaps new ones. No block is pinned: a request is
    over before the next one begins, and its prompt may be larger than the cache.

    Args:
        policy: one that was not used before.
    """
    cache = _Cache(capacity, policy, requests)
    if policy.sees_future:
        policy.foresee({number: request.keys for number, request in enumerate(requests)})
    found = np.zeros(len(requests), dtype=np.int64)  # [num_requests], tokens
    half, is_full = len(requests) // 2, False
    for number, request in enumerate(requests):
        if number == half:
            is_full = cache.pool.num_kept == capacity
        found[number] = cache.send(number, request)
    queried = np.array([request.prompt_len for request in requests], dtype=np.int64)
    return CacheResult(
        capacity,
        HitRate(int(found.sum()), int(queried.sum())),
        HitRate(int(found[half:].sum()), int(queried[half:].sum())),
        is_full,
        cache.pool.num_evicted,
    )


class _Cache:
    """The index, pool and policy of an engine. The pool has room for the cache and one more prompt."""

    def __init__(self, capacity: int, policy: EvictionPolicy, requests: Items[PromptBlocks]) -> None:
        longest = max(len(request.keys) for request in requests)
        block_size = max(max(request.num_tokens, default=1) for request in requests)
        self.capacity = capacity
        self.index = PrefixIndex(block_size)
        self.pool = BlockPool(capacity + longest, self._forget, policy)

    def _forget(self, blocks: list[int]) -> None:
        self.index.forget(blocks)

    def send(self, number: int, request: PromptBlocks) -> int:
        """Serve a request. Returns how many tokens it found."""
        pool, keys = self.pool, request.keys
        pool.now = float(number)
        found = self.index.longest(keys[: request.num_asked])
        pool.reuse(found)
        pool.policy.admitted(number)
        depth = self._compute(keys, len(found), found)
        while depth < len(keys):  # blocks after one that was evicted may still be there
            depth += self.index.holds(keys[depth])
            depth = self._compute(keys, depth, [])
        return sum(request.num_tokens[: len(found)])

    def _compute(self, keys: Items[Key], start: int, held: list[int]) -> int:
        """Compute a prompt's blocks from `start` on, up to the next that is there. Returns its number.

        Args:
            held: the blocks before, which are released together with the new ones.
        """
        stop, pool = start, self.pool
        while stop < len(keys) and not self.index.holds(keys[stop]):
            stop += 1
        blocks = pool.take_all(stop - start)
        pool.keep(self.index.insert(keys[start:stop], blocks, start))
        pool.release_all([*held, *blocks][::-1])
        if pool.num_kept > self.capacity:
            pool.evict(pool.num_kept - self.capacity)
        return stop


@dataclass(frozen=True, slots=True, eq=False)
class LruCurve:
    """What LRU finds at every capacity.

    Attributes:
        cold, warm: tokens found, by the cache's number of blocks, over all requests and over the second
            half.  # [largest useful capacity + 1]
        num_queried, num_queried_warm: tokens looked up.
    """

    cold: NDArray[np.int64]
    warm: NDArray[np.int64]
    num_queried: int
    num_queried_warm: int

    def at(self, capacity: int) -> tuple[HitRate, HitRate]:
        """Cold and warm hits, as in `CacheResult`. Beyond the largest useful capacity no more is found."""
        index = min(capacity, len(self.cold) - 1)
        return (
            HitRate(int(self.cold[index]), self.num_queried),
            HitRate(int(self.warm[index]), self.num_queried_warm),
        )


def lru_curve(requests: Items[PromptBlocks]) -> LruCurve:
    """LRU's hits at all capacities in one pass, by stack distances (Mattson et al. 1970).

    A stack holds all blocks, those of the most recent request on top, a request's first block uppermost. A
    cache of C blocks holds the upper C of them. The blocks before one that request t was the last to use
    were used by t or later, so along a prompt the last uses never increase::

        last use   9 9 9 | 4 4 | 2 2 2 2 | never
        distance of block d, in the run from a on with last use t:
                   blocks last used after t, + (d - a) above it in the run, + 1
    """
    number_of: dict[Key, int] = {}
    paths = [
        np.array([number_of.setdefault(key, len(number_of)) for key in request.keys], dtype=np.int64)
        for request in requests
    ]
    last_use = np.full(len(number_of), -1, dtype=np.int64)  # of each block
    num_last = np.zeros(len(requests), dtype=np.int64)  # blocks that were last used by each request
    found = np.zeros((2, len(number_of) + 1), dtype=np.int64)  # [half, distance], tokens
    half = len(requests) // 2
    for number, (request, path) in enumerate(zip(requests, paths, strict=True)):
        last = last_use[path]
        edges = [*np.flatnonzero(np.diff(last, prepend=-2)).tolist(), len(path)]
        for start, stop in itertools.pairwise(edges):
            use = int(last[start])
            if use >= 0:
                above = start + int(num_last[use + 1 : number].sum())  # the path so far, and others
                tokens = np.array(request.num_tokens[start : min(stop, request.num_asked)], dtype=np.int64)
                found[int(number >= half), above + 1 : above + 1 + len(tokens)] += tokens
                num_last[use] -= stop - start
        last_use[path] = number
        num_last[number] = len(path)
    sums = found.cumsum(axis=1)
    queried = [request.prompt_len for request in requests]
    return LruCurve(sums[0] + sums[1], sums[1], sum(queried), sum(queried[half:]))
