"""Pages: the unit in which memory is committed, and which pages get and lose memory in an iteration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence as Items


class KeptPages(Enum):
    """What happens to the pages of a finished sequence (`--kept-pages`)."""

    REUSE = "reuse"  # kept for the next owner of the extent, and given back when memory is short
    LATE = "late"  # given back when memory is short; the next owner takes another extent
    NONE = "none"  # given back at once


@dataclass(frozen=True, slots=True)
class PageSpec:
    """How virtual extents get physical memory.

    Each layer has one tensor of keys and one of values. All of these tensors have memory for the same
    pages at any time, so "a page" stands for one page in each of them.

    Attributes:
        row_bytes: bytes of one token's keys in one layer.
        page_bytes: bytes of a page of one tensor; a token may begin in one page and end in the next.
        ahead_tokens: tokens committed beyond those needed, while the model computes; 0: none.
        kept: what happens to the pages of a finished sequence.
        max_extents: most sequences that have an extent at a time; None: as many as there are pages.
    """

    row_bytes: int
    page_bytes: int
    ahead_tokens: int = 0
    kept: KeptPages = KeptPages.REUSE
    max_extents: int | None = None

    def num_pages(self, num_tokens: int) -> int:
        """Pages that hold `num_tokens` tokens, the first of which begins a page."""
        return -(-num_tokens * self.row_bytes // self.page_bytes)

    def num_tokens(self, num_pages: int) -> int:
        """Whole tokens that `num_pages` pages hold."""
        return num_pages * self.page_bytes // self.row_bytes


class PageRun(NamedTuple):
    """Consecutive virtual pages: `num_pages` from number `first` on, in every tensor."""

    first: int
    num_pages: int


class PageChanges(NamedTuple):
    """What happens to pages in one iteration, in this order.

    Attributes:
        given_back: pages that lose their memory, after swapped-out tokens were read.
        committed: pages that get memory, before anything is written.
        ahead: pages that get memory while the model computes; the next iteration may need them.
    """

    given_back: Items[PageRun] = ()
    committed: Items[PageRun] = ()
    ahead: Items[PageRun] = ()


@dataclass(slots=True)
class PageCounts:
    """What happened to pages in a run. Pages of one tensor; times in seconds of the run's clock.

    Attributes:
        committed: pages that got memory when they were needed.
        ahead: pages that got memory ahead of need.
        reused: pages that the next owner of their extent found committed.
        given_back: pages that lost their memory.
        peak: most pages that had memory at a time.
        commit_time: time that iterations waited for pages.
        ahead_time: time spent committing pages while the model computed.
    """

    committed: int = 0
    ahead: int = 0
    reused: int = 0
    given_back: int = 0
    peak: int = 0
    commit_time: float = 0.0
    ahead_time: float = 0.0
