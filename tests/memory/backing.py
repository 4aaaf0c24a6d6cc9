"""The physical pages behind virtual slots, as a manager's changes of pages say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memory.contents import Token
    from pagedbench.memory.pages import PageRun
    from pagedbench.memory.virtual.page_pool import PagePool


class Backing:
    """Which virtual pages have memory. What a page held is lost when its memory is given back."""

    def __init__(self, pages: PagePool) -> None:
        self._pages = pages
        self.committed: set[int] = set()

    def change(self, device: dict[int, Token]) -> None:
        """Carry out the changes of one iteration; `device` is what the slots hold."""
        changes = self._pages.take_changes()
        lost = _numbers(changes.given_back)
        assert lost <= self.committed, "a page without memory gives it back"
        self.committed -= lost
        for slot in [slot for slot in device if not self.pages_of(slot).isdisjoint(lost)]:
            del device[slot]
        for runs in (changes.committed, changes.ahead):
            new = _numbers(runs)
            assert self.committed.isdisjoint(new), "a page gets memory twice"
            self.committed |= new
        assert len(self.committed) == self._pages.num_committed <= self._pages.num_pages

    def pages_of(self, slot: int) -> set[int]:
        """The pages that hold a slot's token, or parts of it."""
        row, page = self._pages.spec.row_bytes, self._pages.spec.page_bytes
        return {*range(slot * row // page, -(-(slot + 1) * row // page))}


def _numbers(runs: Iterable[PageRun]) -> set[int]:
    return {first + i for first, num_pages in runs for i in range(num_pages)}
