"""PageCommitter: carries out the changes of pages, those ahead of need in a thread while the model runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pagedbench.clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future

    from pagedbench.execution.virtual_cache import VirtualCache
    from pagedbench.memory.pages import PageChanges, PageCounts, PageRun


class PageCommitter:
    """The pages of one engine. Its first change takes all memory from the cache."""

    def __init__(self, cache: VirtualCache, counts: PageCounts) -> None:
        """`counts`: where the times are added up."""
        self._cache = cache
        self._counts = counts
        self._has_begun = False
        self._worker = ThreadPoolExecutor(1, "pages")
        self._ahead: Future[float] | None = None  # seconds that the thread's last pages took

    def change(self, changes: PageChanges) -> None:
        """Carry out the changes of an iteration; those ahead of need are only begun.

        Raises:
            KVCacheError: the operating system has no memory left.
        """
        clock = WallClock()
        if not self._has_begun:
            self._cache.clear()
            self._has_begun = True
        if self._ahead is not None:
            self._counts.ahead_time += self._ahead.result()
            self._ahead = None
        for run in changes.given_back:
            self._cache.give_back(run)
        self._commit(changes.committed)
        self._counts.commit_time += clock.now
        if changes.ahead:
            self._ahead = self._worker.submit(self._commit, changes.ahead)

    def _commit(self, runs: Iterable[PageRun]) -> float:
        """Commit pages. Returns the seconds that it took."""
        clock = WallClock()
        for run in runs:
            self._cache.commit(run)
        return clock.now
