"""Which request owned which blocks when: turns events into rectangles of blocks over iterations."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.event_log import GAINS, NONE, Event

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.metrics.event_log import EventTable
    from pagedbench.runs.events_file import Layout

    Integers = NDArray[np.int64]


class State(IntEnum):
    """Why a block is not free."""

    OWNED = 0  # by one sequence
    SHARED = 1  # by several
    CACHED = 2  # by none, but its content may be reused


@dataclass(slots=True)
class Rectangles:
    """Blocks `block` to `block` + `height` - 1, from boundary `start` to boundary `end`.

    Boundary i lies before iteration i. In pools without blocks, a block is a slot.

    Attributes:
        owner: the request that holds the blocks, the first if several do; of cached ones, the last holder.
        tier: index into `TIERS`.
        first_tokens, last_tokens: tokens in them at both ends; they grow by one per iteration.
        usable: slots that ever hold a token.
    """

    block: Integers
    height: Integers
    start: Integers
    end: Integers
    owner: Integers
    state: Integers
    tier: Integers
    first_tokens: Integers
    last_tokens: Integers
    usable: Integers

    def __len__(self) -> int:
        return len(self.block)

    @property
    def area(self) -> Integers:
        """Blocks times iterations."""
        return self.height * (self.end - self.start)

    def take(self, chosen: NDArray[np.bool_] | Integers) -> Rectangles:
        """The rectangles with these numbers."""
        return Rectangles(*(getattr(self, item.name)[chosen] for item in fields(self)))


@dataclass(slots=True)
class Block:
    """The state of one block while the events are read."""

    start: int = 0
    owners: dict[tuple[int, int], None] = field(default_factory=dict)  # (request, sequence), oldest first
    owner: int = NONE  # the request shown
    state: int = NONE  # of `State`; NONE: free
    height: int = 1
    first_tokens: int = 0
    tokens: int = 0  # at the latest event
    last_tokens: int = 0  # at the end of the rectangle that this event ends
    is_kept: bool = False


def boundaries(table: EventTable, starts: NDArray[np.float64], ends: NDArray[np.float64]) -> Integers:
    """The boundary at which each event shows: before its iteration, or after it if the event came after."""
    known = np.minimum(table.step, len(starts) - 1)
    with np.errstate(invalid="ignore"):
        is_after = table.t_s > (starts[known] + ends[known]) / 2
    return table.step.astype(np.int64) + is_after


def rectangles_of(table: EventTable, layout: Layout, moments: Integers, num_steps: int) -> Rectangles:
    """A rectangle for every stretch of time in which a block had the same owner and state.

    Args:
        moments: the boundary of each event.
    """
    blocks: dict[tuple[int, int], Block] = {}
    rows: list[tuple[int, ...]] = []
    prompts: dict[int, int] = {}  # request -> tokens when it was last admitted
    columns = (
        table.event,
        moments,
        table.block,
        table.request_id,
        table.sequence,
        table.tokens,
        table.tier,
    )
    for event, moment, number, request, sequence, tokens, tier in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        if number == NONE:
            if event == Event.ADMIT:
                prompts[request] = tokens
            continue
        block = blocks.get((tier, number))
        if block is None:
            block = blocks[tier, number] = Block()
        if layout.is_extents and event == Event.ALLOCATE:
            block.height, tokens = tokens, prompts.get(request, 0)
        _apply(block, event, (request, sequence), tokens)
        _close(block, (tier, number), moment, rows)
    for key, block in blocks.items():
        block.owners, block.is_kept, block.last_tokens = {}, False, block.tokens
        _close(block, key, num_steps, rows)
    names = [item.name for item in fields(Rectangles)]
    data = np.array(rows, dtype=np.int64).reshape(-1, len(names))
    return Rectangles(*data.T.copy())


def _apply(block: Block, event: int, owner: tuple[int, int], tokens: int) -> None:
    block.last_tokens = block.tokens
    if event in GAINS:
        if block.owners:
            block.last_tokens = tokens
        block.owners[owner] = None
        block.tokens = tokens
    elif event == Event.FREE:
        block.owners.pop(owner, None)
        block.tokens = block.last_tokens = tokens
    elif event in (Event.KEEP, Event.EVICT):
        block.is_kept = event == Event.KEEP


def _close(block: Block, key: tuple[int, int], moment: int, rows: list[tuple[int, ...]]) -> None:
    """End the rectangle of a block whose owner or state has changed, and begin the next."""
    state, owner = NONE, block.owner
    if block.owners:
        state = State.SHARED if len(block.owners) > 1 else State.OWNED
        owner = next(iter(block.owners))[0]
    elif block.is_kept:
        state = State.CACHED
    if (state, owner) == (block.state, block.owner):
        return
    if block.state != NONE and moment > block.start:
        tier, number = key
        size = (number, block.height, block.start, moment)
        last = max(block.last_tokens, block.first_tokens)
        rows.append((*size, block.owner, block.state, tier, block.first_tokens, last, 0))
    block.start, block.state, block.owner, block.first_tokens = moment, state, owner, block.tokens


def with_usable(
    rectangles: Rectangles, layout: Layout, final_len: dict[int, int], finished: dict[int, int]
) -> None:
    """Fill in `usable`: for an extent, the request's final length; for a last block, its final filling.

    Args:
        final_len: request -> tokens of its finished sequence.
        finished: request -> the boundary at which it left.
    """
    capacity = rectangles.height * layout.block_size
    if layout.is_extents:
        lengths = np.array([final_len.get(owner, 0) for owner in rectangles.owner.tolist()], dtype=np.int64)
        rectangles.usable = np.where(lengths > 0, np.minimum(lengths, capacity), capacity)
        return
    ends = np.array([finished.get(owner, NONE) for owner in rectangles.owner.tolist()], dtype=np.int64)
    is_last = (ends == rectangles.end) & (rectangles.last_tokens < capacity)
    rectangles.usable = np.where(is_last, rectangles.last_tokens + 1, capacity)


def merged(rectangles: Rectangles, layout: Layout) -> Rectangles:
    """Merge adjacent full blocks with equal times, owner and state into one rectangle: nothing is lost."""
    if layout.is_extents or not len(rectangles):
        return rectangles
    equal = ("tier", "start", "end", "owner", "state")
    order = np.lexsort([rectangles.block, *(getattr(rectangles, name) for name in equal)])
    found = rectangles.take(order)
    is_full = (found.first_tokens == layout.block_size) & (found.usable == layout.block_size)
    joins = is_full[1:] & is_full[:-1] & (np.diff(found.block) == 1)
    for name in equal:
        joins &= np.diff(getattr(found, name)) == 0
    firsts = np.flatnonzero(np.append(True, ~joins))
    heights = np.diff(firsts, append=len(found))
    result = found.take(firsts)
    result.height = heights
    for name in ("first_tokens", "last_tokens", "usable"):
        setattr(result, name, getattr(result, name) * heights)
    return result


def thinned(rectangles: Rectangles, most: int) -> tuple[Rectangles, float]:
    """The `most` largest rectangles, in order of time; and the share of the area that is lost."""
    order = np.lexsort((rectangles.block, rectangles.start))
    if len(rectangles) <= most:
        return rectangles.take(order), 0.0
    area = rectangles.area
    is_kept = np.zeros(len(rectangles), dtype=bool)
    is_kept[np.argsort(-area, kind="stable")[:most]] = True
    return rectangles.take(order[is_kept[order]]), float(area[~is_kept].sum() / area.sum())
