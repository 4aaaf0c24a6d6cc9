"""Measures the load generator against a server of known delays, and saves the rate that it sustains."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pagedbench.loadgen.generate import generate
from pagedbench.loadgen.known_delays import MODEL, Delays, known_delays
from pagedbench.loadgen.target import Target, reach
from pagedbench.loadgen.wire import Call
from pagedbench.metrics.client import Peak, busiest_second
from pagedbench.remote.certificate import certificate_file, machine_facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from threading import Event

    from pagedbench.loadgen.generate import Generation
    from pagedbench.loadgen.wire import Exchange

DELAYS = Delays(ttft=0.01, gap=0.003, num_tokens=6)
"""A short stream: 25 ms, six words."""

MAX_LAG, MAX_TTFT_ERROR = 0.001, 0.001
"""Seconds that 99 % of the requests must not exceed at a certified rate."""

TIMEOUT = 10.0
WORD_TIMES = re.compile(rb'"times":\[([0-9.]+),([0-9.]+)\]')


@dataclass(frozen=True, slots=True)
class RateCheck:
    """The measurement of the generator at one rate. Times in seconds.

    Attributes:
        rate: the rate asked for, in requests per second.
        sent_rate: the number of sent requests / the time from the first to the last.
        lag_*: from the scheduled time to the first byte.
        late_share: the share of requests with a lag above the limit.
        ttft_error_*: the client's time from the scheduled time to the first word - the server's from the
            request's arrival to the first word.
        gap_error_p99: |the client's - the server's time| between two words.
        peak: requests sent, and words read, in the busiest seconds.
        cpu_share: the share of time in which the workers ran; the rest is headroom.
        was_full: calls had to wait because no more sockets could be opened.
        problem: a sentence about a worker that failed, which makes all results worthless.
    """

    rate: float
    num_requests: int
    num_failed: int
    sent_rate: float
    lag_p50: float
    lag_p99: float
    lag_max: float
    late_share: float
    ttft_error_p50: float
    ttft_error_p99: float
    gap_error_p99: float
    cpu_share: float
    peak: Peak
    was_full: bool = False
    problem: str = ""

    @property
    def is_kept(self) -> bool:
        """Did the generator keep up with this rate?"""
        if self.was_full or self.problem:
            return False
        return not self.num_failed and self.lag_p99 <= MAX_LAG and self.ttft_error_p99 <= MAX_TTFT_ERROR


def check_rates(
    rates: Sequence[float], duration: float, num_workers: int, seed: int, stop: Event
) -> Iterator[RateCheck]:
    """Send Poisson arrivals at each rate to a server in another process on this machine."""
    with known_delays(DELAYS) as port:
        reached = reach(Target("127.0.0.1", port))
        for rate in rates:
            found: list[Exchange] = []
            calls = _calls(rate, duration, seed, reached.target.authority)
            generation = generate(
                calls,
                reached,
                on_exchange=found.append,
                timeout=TIMEOUT,
                num_workers=num_workers,
                stop=stop,
            )
            if generation.was_stopped:
                return
            yield _rate_check(rate, found, generation)


def _calls(rate: float, duration: float, seed: int, authority: str) -> list[Call]:
    import numpy as np

    body = json.dumps(
        {"model": MODEL, "prompt": [1, 2, 3], "max_tokens": DELAYS.num_tokens, "stream": True}
    ).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {len(body)}\r\n\r\n"
    number = max(round(rate * duration), 1)
    times = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, number))
    return [Call(index, when, head.encode() + body) for index, when in enumerate(times.tolist())]


def _rate_check(rate: float, found: list[Exchange], generation: Generation) -> RateCheck:
    import numpy as np

    whole = [exchange for exchange in found if exchange.failure is None]
    sent = sorted(exchange.start for exchange in found if not math.isnan(exchange.start))
    lags = [exchange.lag for exchange in found if not math.isnan(exchange.start)]
    errors = [word_errors(exchange) for exchange in whole]
    gaps = [abs(error) for _, gap_errors in errors for error in gap_errors]
    wall = sum(worker.wall_s for worker in generation.workers)
    return RateCheck(
        rate=rate,
        num_requests=len(found),
        num_failed=len(found) - len(whole),
        sent_rate=(len(sent) - 1) / (sent[-1] - sent[0]) if len(sent) > 1 else math.nan,
        lag_p50=_percentile(lags, 50),
        lag_p99=_percentile(lags, 99),
        lag_max=max(lags, default=math.nan),
        late_share=sum(lag > MAX_LAG for lag in lags) / len(lags) if lags else math.nan,
        ttft_error_p50=_percentile([ttft for ttft, _ in errors], 50),
        ttft_error_p99=_percentile([ttft for ttft, _ in errors], 99),
        gap_error_p99=_percentile(gaps, 99),
        cpu_share=sum(worker.cpu_s for worker in generation.workers) / wall if wall else math.nan,
        peak=Peak(busiest_second(np.array(sent)), busiest_second(np.array(_word_times(whole)))),
        was_full=generation.was_full,
        problem=" ".join(generation.problems),
    )


def _word_times(whole: list[Exchange]) -> list[float]:
    """The time at which each word was read."""
    return [seen for exchange in whole for seen, data in exchange.pieces for _ in WORD_TIMES.finditer(data)]


def word_errors(exchange: Exchange) -> tuple[float, list[float]]:
    """The client's TTFT - the server's, and the same for every gap."""
    words = [
        (seen, float(word[1]), float(word[2]))
        for seen, data in exchange.pieces
        for word in WORD_TIMES.finditer(data)
    ]
    first_seen, arrived, first_sent = words[0]
    gaps = [
        (seen - seen_before) - (sent - sent_before)
        for (seen_before, _, sent_before), (seen, _, sent) in pairwise(words)
    ]
    return (first_seen - exchange.scheduled) - (first_sent - arrived), gaps


def _percentile(values: list[float], percent: float) -> float:
    import numpy as np

    return float(np.percentile(values, percent)) if values else math.nan


def highest_kept(checks: Sequence[RateCheck]) -> RateCheck | None:
    """The check of the highest rate up to which all rates were kept; None: not even the lowest was."""
    kept = None
    for check in sorted(checks, key=lambda check: check.rate):
        if not check.is_kept:
            break
        kept = check
    return kept


def save_certificate(checks: Sequence[RateCheck], num_workers: int, made: str) -> Path:
    """Save the checks for that number of workers, and replace older ones. Returns the file.

    Args:
        made: the current time as ISO text.
    """
    from pagedbench.runs.files import json_text, write_file

    kept = highest_kept(checks)
    document = {
        "made": made,
        "machine": machine_facts(),
        "workers": num_workers,
        "rate": kept and kept.rate,
        "peak": kept and asdict(kept.peak),
        "checks": [asdict(check) for check in checks],
    }
    path = certificate_file(num_workers)
    write_file(path, json_text(document).encode())
    return path
