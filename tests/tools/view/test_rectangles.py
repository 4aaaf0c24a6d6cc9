"""Rectangles of ownership are what the events say, merged without loss, and thinned by the smallest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from pagedbench.metrics.event_log import GAINS, NONE, Event
from pagedbench.runs.events_file import read_events
from pagedbench.runs.saved import load_run
from pagedbench.tools.view.rectangles import (
    Rectangles,
    State,
    boundaries,
    merged,
    rectangles_of,
    thinned,
    with_usable,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pagedbench.runs.events_file import Layout


def read(folder: Path) -> tuple[Rectangles, Layout, NDArray[np.int64]]:
    """The rectangles, the layout, and per boundary how many blocks had an owner, by the events alone."""
    table, layout = read_events(folder)
    steps = load_run(folder).steps
    starts = steps["t_s"].to_numpy()
    moments = boundaries(table, starts, starts + steps["step_ms"].to_numpy() / 1000)
    owners: dict[tuple[int, int], int] = {}
    taken = np.zeros(len(starts), dtype=np.int64)
    rows = zip(
        moments.tolist(), table.event.tolist(), table.tier.tolist(), table.block.tolist(), strict=True
    )
    for moment, event, tier, block in rows:
        change = (event in GAINS) - (event == Event.FREE)
        if block == NONE or not change:
            continue
        number = owners.get((tier, block), 0)
        owners[tier, block] = number + change
        if (number + change > 0) != (number > 0):
            taken[moment:] += change
    return rectangles_of(table, layout, moments, len(starts)), layout, taken


def covered(rectangles: Rectangles, num_steps: int) -> NDArray[np.int64]:
    """Blocks with an owner in each iteration, by the rectangles."""
    is_owned = rectangles.state != State.CACHED
    change = np.zeros(num_steps + 1, dtype=np.int64)
    np.add.at(change, rectangles.start[is_owned], rectangles.height[is_owned])
    np.add.at(change, rectangles.end[is_owned], -rectangles.height[is_owned])
    return np.cumsum(change)[:-1]


@pytest.mark.parametrize("kind", ["recomputing", "swapping"])
def test_rectangles_cover_what_is_owned(kind: str, request: pytest.FixtureRequest) -> None:
    rectangles, layout, taken = read(request.getfixturevalue(kind))
    assert covered(rectangles, len(taken)).tolist() == taken.tolist()
    with_usable(rectangles, layout, {}, {})
    joined = merged(rectangles, layout)
    assert len(joined) < len(rectangles)
    assert covered(joined, len(taken)).tolist() == taken.tolist()
    assert joined.area.sum() == rectangles.area.sum()
    assert cells(joined) == cells(rectangles)


def cells(rectangles: Rectangles) -> set[tuple[int, ...]]:
    """Block, times, owner, state and tier of every block of every rectangle."""
    found = set()
    columns = ("block", "height", "start", "end", "owner", "state", "tier")
    for block, height, *rest in zip(*(getattr(rectangles, name).tolist() for name in columns), strict=True):
        found |= {(block + i, *rest) for i in range(height)}
    return found


def test_two_rectangles_never_overlap(recomputing: Path) -> None:
    rectangles, _, _ = read(recomputing)
    order = np.lexsort((rectangles.start, rectangles.block, rectangles.tier))
    found = rectangles.take(order)
    is_same = (np.diff(found.block) == 0) & (np.diff(found.tier) == 0)
    assert (found.end[:-1] <= found.start[1:])[is_same].all()
    assert set(rectangles.state.tolist()) == {State.OWNED, State.SHARED, State.CACHED} or (
        set(rectangles.state.tolist()) == {State.OWNED, State.CACHED}
    )


def test_extents_have_the_length_that_was_reserved(contiguous: Path) -> None:
    rectangles, layout, _ = read(contiguous)
    run = load_run(contiguous)
    lengths = dict(
        zip(
            run.requests["request_id"], run.requests["prompt_len"] + run.requests["output_len"], strict=True
        )
    )
    with_usable(rectangles, layout, lengths, {})
    assert (rectangles.block + rectangles.height <= layout.num_blocks).all()
    assert (rectangles.usable < rectangles.height).any(), "a reservation is longer than the reply"
    prompts = dict(zip(run.requests["request_id"], run.requests["prompt_len"], strict=True))
    for owner, first, last, usable in zip(
        rectangles.owner, rectangles.first_tokens, rectangles.last_tokens, rectangles.usable, strict=True
    ):
        assert first == prompts[owner]
        assert last == lengths[owner] - 1  # the last token is never stored
        assert usable == lengths[owner]


def test_the_smallest_are_left_out(recomputing: Path) -> None:
    rectangles, layout, _ = read(recomputing)
    joined = merged(rectangles, layout)
    kept, lost = thinned(joined, 50)
    assert len(kept) == 50
    assert kept.area.min() >= np.sort(joined.area)[-50]
    assert lost == pytest.approx(1 - kept.area.sum() / joined.area.sum())
    assert (np.diff(kept.start) >= 0).all()
    assert thinned(joined, len(joined))[1] == 0
