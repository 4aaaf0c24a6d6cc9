"""PagePool: which extent of virtual pages a sequence gets, and which of its pages have memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.memory.pages import KeptPages, PageChanges, PageCounts, PageRun

if TYPE_CHECKING:
    from pagedbench.memory.pages import PageSpec


class PagePool:
    """`num_pages` physical pages behind extents of `extent_pages` virtual ones. Touches no memory itself.

    ::

        extent 0   [needed needed needed | ahead     |  .  .  .  . ]     an owner: grows to the right
        extent 1   [kept   kept          |  .  .  .  .  .  .  .  . ]     idle: waits for the next owner
                    `--- have memory ---'   have none

    Pages that have memory and are not needed count as free. They are given back when other pages need
    memory: those of idle extents first, beginning with the extent that has been idle for longest.
    """

    def __init__(self, spec: PageSpec, num_pages: int, extent_pages: int) -> None:
        self.spec = spec
        self.num_pages = num_pages
        self.extent_pages = extent_pages
        self.max_extents = num_pages if spec.max_extents is None else min(spec.max_extents, num_pages)
        self.counts = PageCounts()
        self.num_needed = 0  # pages that owners need
        self.num_committed = 0  # pages that have memory
        self._needed: list[int] = []  # by extent; extents are opened one by one
        self._committed: list[int] = []
        self._known: list[int] = []  # committed pages, as reported by the last `take_changes`
        self._idle: dict[int, None] = {}  # extents without an owner, the longest idle first
        self._changed: set[int] = set()
        self._per_token = spec.num_pages(1)
        self._num_ahead = max(spec.num_pages(spec.ahead_tokens), self._per_token * (spec.ahead_tokens > 0))

    @property
    def num_free(self) -> int:
        """Pages that are not needed, with memory or without."""
        return self.num_pages - self.num_needed

    @property
    def num_free_extents(self) -> int:
        return self.max_extents - len(self._needed) + len(self._idle)

    @property
    def num_addresses(self) -> int:
        """Virtual slots of all extents."""
        return self.spec.num_tokens(self.max_extents * self.extent_pages)

    def open(self, num_pages: int) -> int:
        """Find an extent for a new owner that needs `num_pages` pages. Returns the extent's number."""
        extent = self._best_idle(num_pages)
        if extent is None:
            extent = len(self._needed)
            assert extent < self.max_extents, "no extent is left"
            for column in (self._needed, self._committed, self._known):
                column.append(0)
        else:
            del self._idle[extent]
            self.counts.reused += min(self._committed[extent], num_pages)
        self.grow(extent, num_pages)
        return extent

    def _best_idle(self, num_pages: int) -> int | None:
        """The idle extent to reuse; None: open a new one."""
        is_reused, committed = self.spec.kept is KeptPages.REUSE, self._committed
        wanted = num_pages if is_reused else 0  # pages with memory
        best = min(self._idle, key=lambda extent: abs(committed[extent] - wanted), default=None)
        can_open = len(committed) < self.max_extents
        return None if best is not None and committed[best] and can_open and not is_reused else best

    def grow(self, extent: int, num_pages: int) -> None:
        """The owner of the extent needs `num_pages` more of its pages."""
        self._needed[extent] += num_pages
        self.num_needed += num_pages
        assert self.num_needed <= self.num_pages, "more pages are needed than there are"
        assert self._needed[extent] <= self.extent_pages, "a sequence outgrew its extent"
        self._changed.add(extent)
        missing = self._needed[extent] - self._committed[extent]
        if missing > 0:
            self._reclaim(missing - (self.num_pages - self.num_committed))
            self._commit(extent, missing)

    def close(self, extent: int) -> None:
        """The owner of the extent is gone."""
        self.num_needed -= self._needed[extent]
        self._needed[extent] = 0
        self._idle[extent] = None
        if self.spec.kept is KeptPages.NONE:
            self._commit(extent, -self._committed[extent])

    def _commit(self, extent: int, num_pages: int) -> None:
        """Add to (or, if negative, take from) the extent's pages that have memory."""
        self._committed[extent] += num_pages
        self.num_committed += num_pages
        self._changed.add(extent)

    def _reclaim(self, num_pages: int) -> None:
        """Take the memory of `num_pages` pages that are not needed."""
        owned = (extent for extent in range(len(self._needed)) if extent not in self._idle)
        for extent in (*self._idle, *owned) if num_pages > 0 else ():
            number = min(self._committed[extent] - self._needed[extent], num_pages)
            if number > 0:  # a growing extent may need more than it has
                self._commit(extent, -number)
                num_pages -= number
            if num_pages <= 0:
                return

    def take_changes(self) -> PageChanges:
        """What has changed since the last call, and what is to be committed ahead of need.

        An owner that has just used up its memory gets `ahead_tokens` more at once, unless a page would have
        to be given back for it. They can be committed during an iteration, before they are needed.
        """
        given_back, committed, ahead = [], [], []
        for extent in sorted(self._changed):
            needed, first = self._needed[extent], extent * self.extent_pages
            if needed and self._committed[extent] - needed < self._per_token:
                self._commit_ahead(extent)
            if not needed:  # an idle extent keeps only pages that were committed before
                self._commit(extent, -max(self._committed[extent] - self._known[extent], 0))
            before, now = self._known[extent], self._committed[extent]
            between = min(max(needed, before), now)  # from here on ahead of need
            if now < before:
                given_back.append(PageRun(first + now, before - now))
            if between > before:
                committed.append(PageRun(first + before, between - before))
            if now > max(between, before):
                ahead.append(PageRun(first + between, now - between))
            self._known[extent] = now
        self._changed.clear()
        changes = PageChanges(given_back, committed, ahead)
        self._count(changes)
        return changes

    def _commit_ahead(self, extent: int) -> None:
        room = min(self.num_pages - self.num_committed, self.extent_pages - self._committed[extent])
        if number := min(self._num_ahead, room):
            self._commit(extent, number)

    def _count(self, changes: PageChanges) -> None:
        counts = self.counts
        counts.given_back += sum(run.num_pages for run in changes.given_back)
        counts.committed += sum(run.num_pages for run in changes.committed)
        counts.ahead += sum(run.num_pages for run in changes.ahead)
        counts.peak = max(counts.peak, self.num_committed)

    def check_integrity(self, needed: dict[int, int]) -> None:
        """Recompute the totals; `needed`: the pages that each owned extent needs.

        Raises:
            AssertionError: a total is wrong, or an extent has no owner and is not idle.
        """
        assert {extent: number for extent, number in enumerate(self._needed) if number} == needed
        assert self.num_needed == sum(needed.values()), "needed pages do not match"
        assert self.num_committed == sum(self._committed), "pages with memory do not match"
        assert self.num_committed <= self.num_pages, "more pages have memory than there are"
        assert set(needed).isdisjoint(self._idle), "an extent is idle and owned"
        assert len(needed) + len(self._idle) == len(self._needed) <= self.max_extents
        for extent, number in enumerate(self._committed):
            assert self._needed[extent] <= number <= self.extent_pages, f"extent {extent} lacks pages"
