"""Selection: the rows of a data set that become requests, and when they arrive."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.workload.arrivals import ArrivalProcess
from pagedbench.workload.chat import conversations
from pagedbench.workload.rows import TraceError
from pagedbench.workload.seeds import Stream, generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.workload.rows import Row

DEFAULT_RATE = 2.0
DEFAULT_DURATION = 60.0


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows in order of arrival.

    Attributes:
        times: of arrival, in seconds; a turn that waits for another has the time of its session.
        previous: for every row, the index of the turn that it waits for.
        arrival: the arrival process in words.
    """

    rows: list[Row]
    times: list[float]
    previous: list[int | None]
    arrival: str


def select(
    rows: Sequence[Row],
    name: str,
    *,
    num_requests: int | None,
    duration: float | None,
    arrival: str,
    rate: float | None,
    burstiness: float,
    seed: int,
    time_scale: float = 1.0,
) -> Selection:
    """Choose requests among usable rows and give them arrival times; `build_trace` says how.

    Args:
        name: of the data set, for error messages.

    Raises:
        TraceError: no request is left.
    """
    if arrival != "trace":
        process = ArrivalProcess(arrival, DEFAULT_RATE if rate is None else rate, burstiness)
        return _sampled(conversations(rows), process, num_requests, duration, seed)
    if time_scale == 1:
        return _replayed(rows, name, num_requests, duration)
    selection = _replayed(_scaled(rows, time_scale), name, num_requests, duration)
    return replace(selection, arrival=f"{selection.arrival}, multiplied by {time_scale:g}")


def _scaled(rows: Sequence[Row], time_scale: float) -> list[Row]:
    """The rows with their times multiplied."""
    return [
        row if row.arrival_time is None else replace(row, arrival_time=time_scale * row.arrival_time)
        for row in rows
    ]


def _replayed(
    rows: Sequence[Row], name: str, num_requests: int | None, duration: float | None
) -> Selection:
    """The first rows, those of the first seconds, or all. Rows with timestamps cannot be repeated."""
    times = [row.arrival_time for row in rows if row.arrival_time is not None]  # sorted in the file
    if len(times) < len(rows):
        raise TraceError(
            f"{name} has no timestamps for arrival trace: add a column arrival_s, or choose another"
        )
    number = len(rows) if num_requests is None else num_requests
    if duration is not None:
        number = bisect_right(times, duration)
    if number == 0:
        raise TraceError(f"no request of {name} arrives within {duration:g} s: ask for a longer duration")
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


def _sampled(
    sessions: Sequence[list[Row]],
    process: ArrivalProcess,
    num_requests: int | None,
    duration: float | None,
    seed: int,
) -> Selection:
    """Sessions arrive by the process; a row without a session is a session of one turn."""
    if num_requests is not None:
        times = process.times(num_requests, seed).tolist()
        chosen = _shuffled(_first(sessions, num_requests), seed)
    elif math.isinf(process.rate):
        chosen = list(sessions)
        times = process.times(len(chosen), seed).tolist()
    else:
        span = DEFAULT_DURATION if duration is None else duration
        times = process.times_until(span, seed).tolist()
        if not times:
            raise TraceError(
                f"no request arrives within {span:g} s, {process}: "
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
    """Sessions in file order, repeated if there are too few, with that many turns; the last may be cut."""
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
