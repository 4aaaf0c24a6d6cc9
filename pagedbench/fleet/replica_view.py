"""What a router knows of a replica: its own counts, and reports that are as old as staleness allows."""

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
        num_tokens: tokens of prompts, and generated so far, of all requests that wait or run.
        kv_use: share (0-1) of its KV pool that requests hold; what is only cached counts as free.
    """

    num_running: int
    num_waiting: int
    num_tokens: int
    kv_use: float


class Schedule:
    """The present time of the fleet, and the times at which replicas report.

    Reports are taken at every multiple of `staleness` seconds and known at once; 0: at every moment.
    """

    def __init__(self, staleness: float) -> None:
        self.staleness = staleness
        self.now = 0.0

    @property
    def report(self) -> float:
        """The number of the latest report; the time itself where there is one at every moment."""
        return self.now // self.staleness if self.staleness else self.now

    @property
    def report_time(self) -> float:
        """The time of the latest report."""
        return self.report * self.staleness if self.staleness else self.now

    @property
    def next_report(self) -> float:
        """The time of the next report; infinite where there is one at every moment."""
        return (self.report + 1) * self.staleness if self.staleness else math.inf


class CacheEvents:
    """Follows what a replica's cache of prefixes holds, from the events that it sends after iterations."""

    def __init__(self) -> None:
        self._unsent: list[tuple[bool, Key]] = []  # of the iteration that runs: is it kept, and what
        self._sent: deque[tuple[float, list[tuple[bool, Key]]]] = deque()  # by the end of the iteration
        self._known: set[Key] = set()

    def kept(self, blocks: Items[CachedBlock]) -> None:
        self._unsent += [(True, block.key) for block in blocks if block.key is not None]

    def evicted(self, blocks: Items[int], keys: Items[Key]) -> None:
        self._unsent += [(False, key) for key in keys]

    def send(self, time: float) -> None:
        """The iteration ends at this time."""
        if self._unsent:
            self._sent.append((time, self._unsent))
            self._unsent = []

    def num_cached(self, keys: Items[Key], until: float) -> int:
        """How many of a prompt's blocks, from the first on, were there by the events up to this time."""
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
        number: counts replicas from 0, in the order in which they were started.
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
        """`measure`: reads the replica's load; `events`: of its cache, for routers that ask for it."""
        self.number = number
        self.outstanding = 0
        self.outstanding_tokens = 0
        self._schedule = schedule
        self._measure = measure
        self._events = events
        self._report = -1.0  # the number of the report that `_load` is
        self._load = Load(0, 0, 0, 0.0)
        self._sent_report = -1.0  # the number of the report that `_sent` counts from
        self._sent = 0

    @property
    def load(self) -> Load:
        """The latest report. A replica that has not changed since would report the same."""
        if not self._schedule.staleness:
            return self._measure()
        self.note_change()
        return self._load

    @property
    def sent_tokens(self) -> int:
        """Prompt tokens that were sent there since the latest report, which does not count them."""
        return self._sent if self._sent_report == self._schedule.report else 0

    def num_cached(self, keys: Items[Key]) -> int:
        """Blocks of a prompt, from the first on, that its cache of prefixes had at the latest report."""
        return 0 if self._events is None else self._events.num_cached(keys, self._schedule.report_time)

    def note_change(self) -> None:
        """The replica is about to change: what it is until now is the latest report, if that is missing."""
        schedule = self._schedule
        if schedule.staleness and schedule.report > self._report:
            self._report, self._load = schedule.report, self._measure()

    def send(self, prompt_len: int) -> None:
        """The router sends a request there."""
        self.note_change()
        self.outstanding += 1
        self.outstanding_tokens += prompt_len
        if self._schedule.staleness:
            self._sent = self.sent_tokens + prompt_len
            self._sent_report = self._schedule.report

    def end(self, prompt_len: int) -> None:
        """A request that was sent there has ended."""
        self.outstanding -= 1
        self.outstanding_tokens -= prompt_len
