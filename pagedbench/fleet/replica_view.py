"""What a router knows of a replica: the router's own counts, and reports of limited staleness."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Items

    from pagedbench.memory.eviction import CachedBlock
    from pagedbench.memory.prefix import Key


class Load(NamedTuple):
    """What a replica reports of itself.

    Attributes:
        num_running, num_waiting: requests in its present iteration, and in its queue.
        num_tokens: prompt and generated tokens of all requests that wait or run.
        kv_use: share (0-1) of its KV pool that requests hold; blocks that are only cached count as free.
    """

    num_running: int
    num_waiting: int
    num_tokens: int
    kv_use: float


class Schedule:
    """The present time of the fleet, and the times at which replicas report.

    Reports are made at every multiple of `staleness` seconds and known at once; 0: they are always current.
    """

    def __init__(self, staleness: float) -> None:
        self.staleness = staleness
        self.now = 0.0

    @property
    def report(self) -> float:
        """The number of the latest report; the time itself if reports are always current."""
        return self.now // self.staleness if self.staleness else self.now

    @property
    def report_time(self) -> float:
        """The time of the latest report."""
        return self.report * self.staleness if self.staleness else self.now

    @property
    def next_report(self) -> float:
        """The time of the next report; infinite if reports are always current."""
        return (self.report + 1) * self.staleness if self.staleness else math.inf


class CacheEvents:
    """Follows the contents of a replica's prefix cache, by the events that it sends after iterations."""

    def __init__(self) -> None:
        self._unsent: list[tuple[bool, Key]] = []  # of the present iteration: kept or evicted, and the key
        self._sent: deque[tuple[float, list[tuple[bool, Key]]]] = deque()  # by the end of the iteration
        self._known: set[Key] = set()

    def kept(self, blocks: Items[CachedBlock]) -> None:
        self._unsent += [(True, block.key) for block in blocks if block.key is not None]

    def evicted(self, blocks: Items[int], keys: Items[Key]) -> None:
        self._unsent += [(False, key) for key in keys]

    def send(self, time: float) -> None:
        """Send the events of an iteration that ends at `time`."""
        if self._unsent:
            self._sent.append((time, self._unsent))
            self._unsent = []

    def num_cached(self, keys: Items[Key], until: float) -> int:
        """How many of a prompt's blocks, from the first on, were cached by the events up to `until`."""
        while self._sent and self._sent[0][0] <= until:
            for is_kept, key in self._sent.popleft()[1]:
                if is_kept:
                    self._known.add(key)
                else:
                    self._known.discard(key)
        known = self._known
        return next((i for i, key in enumerate(keys) if key not in known), len(keys))


class ReplicaView:
    """A replica as a router sees it.

    Attributes:
        number: number of the replica, from 0, in order of start.
        outstanding, outstanding_tokens: requests that the router sent there and that have not ended, and
            their prompt tokens; always exact, since replies come back through the router.
    """

    def __init__(
        self,
        number: int,
        schedule: Schedule,
        measure: Callable[[], Load],
        events: CacheEvents | None = None,
    ) -> None:
        """`measure`: reads the replica's load; `events`: those of its cache, for routers that need them."""
        self.number = number
        self.outstanding = 0
        self.outstanding_tokens = 0
        self._schedule = schedule
        self._measure = measure
        self._events = events
        self._report = -1.0  # the number of the report in `_load`
        self._load = Load(0, 0, 0, 0.0)
        self._sent_report = -1.0  # the number of the report that `_sent` counts from
        self._sent = 0

    @property
    def load(self) -> Load:
        """The latest report; a replica that has not changed since would report the same again."""
        if not self._schedule.staleness:
            return self._measure()
        self.note_change()
        return self._load

    @property
    def sent_tokens(self) -> int:
        """Prompt tokens that were sent there since the latest report, and so are not in it."""
        return self._sent if self._sent_report == self._schedule.report else 0

    def num_cached(self, keys: Items[Key]) -> int:
        """Blocks of a prompt, from the first on, that its prefix cache had at the latest report."""
        return 0 if self._events is None else self._events.num_cached(keys, self._schedule.report_time)

    def note_change(self) -> None:
        """Note that the replica is about to change: take the latest report now, if it was not taken."""
        schedule = self._schedule
        if schedule.staleness and schedule.report > self._report:
            self._report, self._load = schedule.report, self._measure()

    def send(self, prompt_len: int) -> None:
        """Note that the router sends a request there."""
        self.note_change()
        self.outstanding += 1
        self.outstanding_tokens += prompt_len
        if self._schedule.staleness:
            self._sent = self.sent_tokens + prompt_len
            self._sent_report = self._schedule.report

    def end(self, prompt_len: int) -> None:
        """Note that a request that was sent there has ended."""
        self.outstanding -= 1
        self.outstanding_tokens -= prompt_len
