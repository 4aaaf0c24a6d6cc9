"""Selection: the rows of a data set that become requests, when they arrive, and what they wait for."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.workload.processes import ArrivalProcess, Ramp, Spike
from pagedbench.workload.rows import TraceError
from pagedbench.workload.seeds import Stream, generator
from pagedbench.workload.sessions import Clients, Wait, conversations

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pagedbench.workload.processes import Shape
    from pagedbench.workload.rows import Row, Turn

DEFAULT_RATE = 2.0
DEFAULT_DURATION = 60.0
REQUESTS_PER_CLIENT = 10
"""Requests per client of a closed loop, unless a number of requests is asked for."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """How requests arrive; the fields are the options of `run`.

    Attributes:
        arrival: a kind of `ArrivalProcess`, `trace` (the file's own times) or `closed`.
        rate: requests per second, 2.0 by default; inf: all at once.
        time_scale: the file's own times are multiplied by this.
        shape: of `spike` and `ramp`.
        max_concurrency, think_time: clients of a closed loop, and the mean of their pauses in seconds.
        turn_times: when a turn follows the one it waits for: `think` (think time after the reply),
            `recorded` (as long after the sending of that turn as in the file) or `api` (think time after
            the reply, or after the recorded end of the reply if that is later).
    """

    arrival: str = "poisson"
    rate: float | None = None
    burstiness: float = 1.0
    time_scale: float = 1.0
    shape: Shape | None = None
    max_concurrency: int | None = None
    think_time: float = 0.0
    turn_times: str = "think"

    @property
    def process(self) -> ArrivalProcess:
        rate = DEFAULT_RATE if self.rate is None else self.rate
        return ArrivalProcess(self.arrival, rate, self.burstiness, self.shape)


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows in order of arrival.

    Attributes:
        times: arrival times in seconds; a turn that waits for another has the time of its session.
        waits: for every row, what it waits for.
        arrival: the arrival process in words.
        clients: those of a closed loop; None: an open one.
        spike: the spike, if any, with its times decided.
    """

    rows: list[Row]
    times: list[float]
    waits: list[Wait | None]
    arrival: str
    clients: Clients | None = None
    spike: Spike | None = None


def select(
    rows: Sequence[Row],
    name: str,
    traffic: Traffic,
    *,
    num_requests: int | None,
    duration: float | None,
    seed: int,
) -> Selection:
    """Choose requests among usable rows and give them arrival times; `build_trace` says how.

    Args:
        name: of the data set, for error messages.

    Raises:
        TraceError: no request is left.
    """
    if traffic.arrival == "trace":
        return _replayed(rows, name, traffic, num_requests, duration)
    if traffic.arrival == "closed":
        return _closed(conversations(rows), traffic, num_requests, seed)
    return _sampled(conversations(rows), traffic, num_requests, duration, seed)


def _replayed(
    rows: Sequence[Row], name: str, traffic: Traffic, num_requests: int | None, duration: float | None
) -> Selection:
    """The first rows, those of the first seconds, or all. Rows with timestamps cannot be repeated."""
    times = [traffic.time_scale * row.arrival_time for row in rows if row.arrival_time is not None]
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
    scaled = "" if traffic.time_scale == 1 else f", multiplied by {traffic.time_scale:g}"
    selection = Selection(list(rows[:number]), times[:number], [], f"the trace's own timestamps{scaled}")
    sessions: dict[str, _Session] = {}
    for index, row in enumerate(selection.rows):
        session = _Session() if row.session is None else sessions.setdefault(row.session, _Session())
        selection.waits.append(session.add(index, row.turn, traffic))
    return selection


def _closed(
    sessions: Sequence[list[Row]], traffic: Traffic, num_requests: int | None, seed: int
) -> Selection:
    """Sessions that clients begin one after the other; a row without a session is one of one turn."""
    assert traffic.max_concurrency is not None, "a closed loop needs clients"
    number = traffic.max_concurrency
    chosen = _first(sessions, number * REQUESTS_PER_CLIENT if num_requests is None else num_requests)
    noun = "clients" if number > 1 else "client"
    pause = f" with a mean pause of {traffic.think_time:g} s" if traffic.think_time else ""
    selection = _joined(
        _shuffled(chosen, seed), itertools.repeat(0.0), traffic, f"closed loop of {number} {noun}{pause}"
    )
    pauses = generator(seed, Stream.THINK_TIMES).standard_exponential(len(selection.rows))
    return replace(selection, clients=Clients(number, tuple((traffic.think_time * pauses).tolist())))


def _sampled(
    sessions: Sequence[list[Row]],
    traffic: Traffic,
    num_requests: int | None,
    duration: float | None,
    seed: int,
) -> Selection:
    """Sessions arrive by the process; a row without a session is a session of one turn."""
    process = traffic.process
    if num_requests is not None:
        chosen = _shuffled(_first(sessions, num_requests), seed)
        process = process.among(len(chosen))
        times = process.times(len(chosen), seed).tolist()
    elif math.isinf(process.rate):
        chosen = list(sessions)
        times = process.times(len(chosen), seed).tolist()
    else:
        span = default_duration(traffic.shape) if duration is None else duration
        process = process.within(span)
        times = process.times_until(span, seed).tolist()
        if not times:
            raise TraceError(
                f"no request arrives within {span:g} s, {process}: "
                "ask for a longer duration or a higher rate"
            )
        chosen = _shuffled(list(itertools.islice(itertools.cycle(sessions), len(times))), seed)
    is_chat = any(len(session) > 1 for session in chosen)
    arrival = process.in_words("sessions") if is_chat else str(process)
    selection = _joined(chosen, times, traffic, arrival)
    return replace(selection, spike=process.shape if isinstance(process.shape, Spike) else None)


def default_duration(shape: Shape | None) -> float:
    """Seconds of arrivals: long enough for a spike in the middle, and what follows it."""
    if isinstance(shape, Spike):
        return max(DEFAULT_DURATION, 4 * shape.duration)
    if isinstance(shape, Ramp) and shape.duration is not None:
        return shape.duration
    return DEFAULT_DURATION


def _joined(
    sessions: Sequence[list[Row]], times: Iterable[float], traffic: Traffic, arrival: str
) -> Selection:
    """The turns of all sessions, one session after the other, each with the time of its session."""
    selection = Selection([], [], [], arrival)
    for rows, time in zip(sessions, times, strict=False):
        session = _Session()
        for row in rows:
            selection.waits.append(session.add(len(selection.rows), row.turn, traffic))
            selection.rows.append(row)
            selection.times.append(time)
    return selection


class _Session:
    """The turns of a session that became requests so far."""

    def __init__(self) -> None:
        self._requests: dict[int, int] = {}  # turn -> its request
        self._latest: int | None = None

    def add(self, request_id: int, turn: Turn | None, traffic: Traffic) -> Wait | None:
        """What the next turn of the session waits for; None: for nothing.

        If a turn has no request (because it was too long, say), the latest request is waited for instead.
        """
        latest, self._latest = self._latest, request_id
        if turn is None:
            return None if latest is None else Wait((latest,))
        needed = dict.fromkeys(self._requests.get(index, latest) for index in turn.waits_for)
        self._requests[turn.index] = request_id
        found = tuple(before for before in needed if before is not None)
        return _wait(found, turn, traffic) if found else None


def _wait(requests: tuple[int, ...], turn: Turn, traffic: Traffic) -> Wait:
    if traffic.turn_times == "recorded" or turn.think_time is None:
        return Wait(requests, spacing=traffic.time_scale * turn.gap)
    spacing = traffic.time_scale * turn.api_time if traffic.turn_times == "api" else 0.0
    return Wait(requests, pause=turn.think_time, spacing=spacing)


def _first(sessions: Sequence[list[Row]], num_requests: int) -> list[list[Row]]:
    """Sessions in file order, repeated if too few, with `num_requests` turns; the last may be cut."""
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
