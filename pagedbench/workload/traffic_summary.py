"""Summaries of a trace's traffic: rate and bursts, sessions, and how much of prompts was seen before."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pagedbench.workload.rows import Row

NUM_PORTIONS = 10


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Arrival times.

    Attributes:
        duration: seconds from the first to the last one.
        rate: requests per second in this time; None: all arrive at once.
        gap_cv: coefficient of variation of the gaps (1 for a Poisson process); None: undefined.
        busiest_second: the most requests in one of the seconds since the first request.
    """

    duration: float
    rate: float | None
    gap_cv: float | None
    busiest_second: int


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions, without the requests that belong to none.

    Attributes:
        num_joining: turns that wait for several others.
    """

    number: int
    num_turns: int
    longest: int
    num_joining: int


@dataclass(slots=True)
class Seen:
    """Blocks and tokens of prompts, and the part that an earlier prompt had: hits of an unbounded cache.

    A block that occurs again is seen with all blocks before it, so tokens count up to its end.
    """

    num_blocks: int = 0
    num_tokens: int = 0
    seen_blocks: int = 0
    seen_tokens: int = 0

    def add(self, row: Row, num_seen: int) -> None:
        """Count a prompt, `num_seen` of whose blocks were seen before."""
        assert row.blocks is not None
        self.num_blocks += len(row.blocks.ids)
        self.num_tokens += row.prompt_len
        self.seen_blocks += num_seen
        self.seen_tokens += min(int(num_seen * row.blocks.size), row.prompt_len)

    @property
    def block_share(self) -> float:
        return self.seen_blocks / self.num_blocks if self.num_blocks else 0.0

    @property
    def token_share(self) -> float:
        return self.seen_tokens / self.num_tokens if self.num_tokens else 0.0


@dataclass(slots=True)
class Portion:
    """A tenth of a trace, by time, or by number of requests where there are no times.

    Attributes:
        start, end: seconds, or numbers of requests.
        distinct_tokens: tokens of all different blocks: the memory that would keep all of them.
    """

    start: float
    end: float
    num_requests: int = 0
    prompt_tokens: int = 0
    distinct_tokens: int = 0
    seen_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reuse:
    """How much of the prompts was seen before.

    Attributes:
        everywhere: in any earlier request.
        second_half: the same, counted over the second half of the requests.
        own: in an earlier request of the same session; None: there are no sessions.
        num_distinct: different blocks.
    """

    everywhere: Seen
    second_half: Seen
    own: Seen | None
    num_distinct: int


def arrivals_of(rows: Sequence[Row]) -> Arrivals | None:
    """The arrival times; None if the rows have none."""
    times = np.array([row.arrival_time for row in rows if row.arrival_time is not None])
    if len(times) < len(rows):
        return None
    gaps = np.diff(times)
    duration = float(times[-1] - times[0])
    has_spread = duration > 0
    return Arrivals(
        duration,
        len(rows) / duration if has_spread else None,
        float(gaps.std() / gaps.mean()) if has_spread else None,
        int(np.unique(np.floor(times - times[0]), return_counts=True)[1].max()),
    )


def sessions_of(rows: Sequence[Row]) -> Sessions | None:
    """The sessions; None if no row belongs to one."""
    turns = Counter(row.session for row in rows if row.session is not None)
    if not turns:
        return None
    joining = sum(row.turn is not None and len(row.turn.waits_for) > 1 for row in rows)
    return Sessions(len(turns), turns.total(), max(turns.values()), joining)


def history_share(rows: Sequence[Row]) -> float | None:
    """The share of prompt tokens that are earlier turns of the same session, where rows hold lengths or
    tokens; None where that is unknown."""
    histories: dict[str, int] = {}
    total = seen = 0
    for row in rows:
        if row.blocks is not None:
            return None
        before = histories.get(row.session, 0) if row.session is not None else 0
        prompt_len = row.prompt_len if row.has_whole_prompt else before + row.prompt_len
        total += prompt_len
        seen += min(before, prompt_len)
        if row.session is not None:
            histories[row.session] = prompt_len + row.output_len
    return seen / total if histories and total else None


def portions_of(rows: Sequence[Row]) -> list[Portion]:
    """Tenths of a trace with their requests and prompt tokens; fewer if there are fewer requests."""
    arrivals = arrivals_of(rows)
    is_timed = arrivals is not None and arrivals.duration > 0
    places = [row.arrival_time or 0.0 for row in rows] if is_timed else list(map(float, range(len(rows))))
    number = min(NUM_PORTIONS, len(rows))
    first, last = places[0], places[-1] if is_timed else float(len(rows))
    edges = [first + (last - first) * i / number for i in range(number + 1)]
    if not is_timed:
        edges = [float(round(edge)) for edge in edges]
    portions = [Portion(start, end) for start, end in itertools.pairwise(edges)]
    for row, portion in zip(rows, _portion_indices(places, edges), strict=True):
        portions[portion].num_requests += 1
        portions[portion].prompt_tokens += row.prompt_len
    return portions


def _portion_indices(places: Sequence[float], edges: Sequence[float]) -> list[int]:
    last = len(edges) - 2
    return [min(bisect_right(edges, place) - 1, last) for place in places]


def reuse_of(rows: Sequence[Row], portions: Sequence[Portion]) -> Reuse | None:
    """Count what was seen before, by block ids, and complete the portions.

    Returns:
        None if a row has no block ids.
    """
    if any(row.blocks is None for row in rows):
        return None
    top = max((max(row.blocks.ids, default=-1) for row in rows if row.blocks is not None), default=-1) + 1
    latest: NDArray[np.int8] = np.full(top, -1, dtype=np.int8)  # block -> the portion it was last seen in
    everywhere, second_half, own = Seen(), Seen(), Seen()
    of_session: dict[str, set[int]] = {}
    middle = len(rows) // 2
    index, left = 0, portions[0].num_requests
    for number, row in enumerate(rows):
        while not left:
            index += 1
            left = portions[index].num_requests
        left -= 1
        assert row.blocks is not None
        ids = np.asarray(row.blocks.ids, dtype=np.int64)  # [number of blocks]
        before = latest[ids]
        num_seen = int(np.count_nonzero(before >= 0))
        num_new = int(np.count_nonzero(before != index))
        latest[ids] = index
        for count in (everywhere, second_half) if number >= middle else (everywhere,):
            count.add(row, num_seen)
        portions[index].seen_tokens += min(int(num_seen * row.blocks.size), row.prompt_len)
        portions[index].distinct_tokens += min(int(num_new * row.blocks.size), row.prompt_len)
        if row.session is not None:
            known = of_session.setdefault(row.session, set())
            num_known = len(known)
            known.update(row.blocks.ids)
            own.add(row, len(row.blocks.ids) - (len(known) - num_known))
    return Reuse(everywhere, second_half, own if of_session else None, int(np.count_nonzero(latest >= 0)))
