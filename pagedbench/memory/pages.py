"""Pages: what memory is committed in, and which pages get and lose theirs in one iteration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence as Items


class KeptPages(Enum):
    """What becomes of the pages of a sequence that has ended (`--kept-pages`)."""

    REUSE = "reuse"  # kept for the next owner of the extent, and given back when memory is short
    LATE = "late"  # given back when memory is short; the next owner takes another extent
    NONE = "none"  # given back at once


@dataclass(frozen=True, slots=True)
class PageSpec:
    """How virtual extents get physical memory.

    The keys, and the values, of each layer are a tensor of their own. All of these tensors have the same
    pages at any time, so "a page" stands for one page in each of them.

    Attributes:
        row_bytes: of one token's keys in one layer.
        page_bytes: of a page of one tensor; a token may begin in one page and end in the next.
        ahead_tokens: tokens that are committed beyond what is needed, beside the model's work; 0: none.
        kept: what becomes of the pages of a sequence that has ended.
        max_extents: sequences that may have an extent at a time; None: as many as there are pages.
    """

    row_bytes: int
    page_bytes: int
    ahead_tokens: int = 0
    kept: KeptPages = KeptPages.REUSE
    max_extents: int | None = None

    def num_pages(self, num_tokens: int) -> int:
        """Pages that hold so many tokens, which begin with a page."""
        return -(-num_tokens * self.row_bytes // self.page_bytes)

    def num_tokens(self, num_pages: int) -> int:
        """Whole tokens that so many pages hold."""
        return num_pages * self.page_bytes // self.row_bytes


class PageRun(NamedTuple):
    """Consecutive virtual pages: `num_pages` from number `first` on, in every tensor."""

    first: int
    num_pages: int


class PageChanges(NamedTuple):
    """What happens to pages in one iteration, in this order.

    Attributes:
        given_back: lose their memory, after swapped-out tokens were read.
        committed: get memory, before anything is written.
        ahead: get memory while the model computes; nothing needs them before the next iteration.
    """

    given_back: Items[PageRun] = ()
    committed: Items[PageRun] = ()
    ahead: Items[PageRun] = ()


@dataclass(slots=True)
class PageCounts:
    """What became of pages in a run. Pages of one tensor; times in seconds of the run's clock.

    Attributes:
        committed: got memory when they were needed.
        ahead: got memory ahead of need.
        reused: were found committed by the next owner of their extent.
        given_back: lost their memory.
        peak: most pages that had memory at a time.
        commit_time: that iterations waited for pages.
        ahead_time: that pages took beside the model's work.
    """

    committed: int = 0
    ahead: int = 0
    reused: int = 0
    given_back: int = 0
    peak: int = 0
    commit_time: float = 0.0
    ahead_time: float = 0.0
