"""Which rows of a data set become requests, and when they arrive."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.workload.arrivals import PROCESSES, ArrivalProcess
from pagedbench.workload.chat import conversations
from pagedbench.workload.rows import TraceError, unknown_name
from pagedbench.workload.seeds import Stream, generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.workload.rows import Row

ARRIVALS = (*PROCESSES, "trace")
DEFAULT_RATE = 2.0
DEFAULT_DURATION = 60.0


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows in order of arrival.

    Attributes:
        times: of arrival, in seconds; a turn that waits for another has that of its session.
        previous: for every row the index of the turn that it waits for.
        arrival: how they arrive, in words.
    """

    rows: list[Row]
    times: list[float]
    previous: list[int | None]
    arrival: str


@dataclass(frozen=True, slots=True)
class Amount:
    """How many requests, or for how many seconds of arrivals; one of the two, or neither.

    Raises:
        TraceError: both are given, or one is impossible.
    """

    num_requests: int | None = None
    duration: float | None = None

    def __post_init__(self) -> None:
        if self.num_requests is not None and self.duration is not None:
            raise TraceError(
                "a number of requests and a duration contradict each other: give one of the two"
            )
        if self.num_requests is not None and self.num_requests < 1:
            raise TraceError(f"the number of requests is {self.num_requests}, but must be 1 or more")
        if self.duration is not None and not 0 < self.duration < math.inf:
            raise TraceError(f"duration is {self.duration}, but must be a finite number of seconds above 0")

    @property
    def span(self) -> float:
        """Seconds of arrivals where no number is given."""
        return DEFAULT_DURATION if self.duration is None else self.duration


def select(
    rows: Sequence[Row],
    name: str,
    amount: Amount,
    *,
    arrival: str,
    rate: float | None,
    burstiness: float,
    seed: int,
    time_scale: float = 1.0,
) -> Selection:
    """Choose requests among rows that fit, and give them their times; `build_trace` says how.

    Args:
        name: of the data set, for error messages.

    Raises:
        TraceError: options contradict each other, or no request is left.
    """
    if arrival == "trace":
        if rate is not None or burstiness != 1:
            raise TraceError(
                "arrival trace replays the file's own timestamps: leave out rate and burstiness"
            )
        if time_scale == 1:
            return _replayed(rows, name, amount)
        selection = _replayed(_scaled(rows, time_scale), name, amount)
        return replace(selection, arrival=f"{selection.arrival}, multiplied by {time_scale:g}")
    if arrival not in PROCESSES:
        raise unknown_name("arrival", arrival, ARRIVALS)
    process = ArrivalProcess(arrival, DEFAULT_RATE if rate is None else rate, burstiness)
    return _drawn(conversations(rows), process, amount, seed)


def _scaled(rows: Sequence[Row], time_scale: float) -> list[Row]:
    """The rows with their times multiplied."""
    return [
        row if row.arrival_time is None else replace(row, arrival_time=time_scale * row.arrival_time)
        for row in rows
    ]


def _replayed(rows: Sequence[Row], name: str, amount: Amount) -> Selection:
    """The first rows, those of the first seconds, or all. Rows with timestamps cannot be repeated."""
    times = [row.arrival_time for row in rows if row.arrival_time is not None]  # sorted in the file
    if len(times) < len(rows):
        raise TraceError(
            f"{name} has no timestamps for arrival trace: add a column arrival_s, or choose another"
        )
    number = len(rows) if amount.num_requests is None else amount.num_requests
    if amount.duration is not None:
        number = bisect_right(times, amount.duration)
    if number == 0:
        raise TraceError(
            f"no request of {name} arrives within {amount.duration:g} s: ask for a longer duration"
        )
    if number > len(rows):
        raise TraceError(
            f"{name} has {len(rows)} usable rows, and timestamps cannot be repeated: "
            f"ask for at most {len(rows)} requests"
        )
    latest: dict[str, int] = {}  # session -> its latest turn
    previous: list[int | None] = []
    for index, row in enumerate(rows[:number]):
        previous.append(None if row.session is None else latest.get(row.session))
        if row.session is not None:
            latest[row.session] = index
    return Selection(list(rows[:number]), times[:number], previous, "the trace's own timestamps")


def _drawn(sessions: Sequence[list[Row]], process: ArrivalProcess, amount: Amount, seed: int) -> Selection:
    """Sessions arrive as the process says, single rows being sessions of one turn."""
    if amount.num_requests is not None:
        times = process.times(amount.num_requests, seed).tolist()
        chosen = _shuffled(_first(sessions, amount.num_requests), seed)
    elif math.isinf(process.rate) and amount.duration is None:
        chosen = list(sessions)
        times = process.times(len(chosen), seed).tolist()
    else:
        times = process.times_until(amount.span, seed).tolist()
        if not times:
            raise TraceError(
                f"no request arrives within {amount.span:g} s, {process}: "
                "ask for a longer duration or a higher rate"
            )
        chosen = _shuffled(list(itertools.islice(itertools.cycle(sessions), len(times))), seed)
    is_chat = any(len(session) > 1 for session in chosen)
    arrival = process.in_words("sessions") if is_chat else str(process)
    selection = Selection([], [], [], arrival)
    for session, time in zip(chosen, times, strict=False):
        for turn, row in enumerate(session):
            selection.previous.append(len(selection.rows) - 1 if turn else None)
            selection.rows.append(row)
            selection.times.append(time)
    return selection


def _first(sessions: Sequence[list[Row]], num_requests: int) -> list[list[Row]]:
    """Sessions in file order, repeated if too few, with that many turns; the last may be cut short."""
    chosen: list[list[Row]] = []
    missing = num_requests
    for session in itertools.cycle(sessions):
        chosen.append(session[:missing])
        missing -= len(chosen[-1])
        if not missing:
            break
    return chosen


def _shuffled(sessions: list[list[Row]], seed: int) -> list[list[Row]]:
    order: list[int] = generator(seed, Stream.SHUFFLE).permutation(len(sessions)).tolist()
    return [sessions[index] for index in order]
