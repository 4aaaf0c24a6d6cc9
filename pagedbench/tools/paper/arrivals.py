"""The authors' arrival generator; everything else in pagedbench draws exponential gaps."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.workload.rows import TraceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pagedbench.workload.rows import Row

BIN_TIME = 0.01
MAX_TOTAL_LEN = 2048


def paper_requests(
    rows: Iterable[Row],
    *,
    rate: float,
    duration: float,
    seed: int = 0,
    n: int = 1,
    beam_width: int | None = None,
) -> Sequence[Request]:
    """The requests of one experiment, equal to the authors' at seed 0 (`astra/benchmark/trace.py`).

    Arrivals are Poisson counts of 10 ms bins, all at the bin's left edge. Of the pairs below 2048
    tokens the first N in file order are taken, repeated if there are too few, and shuffled.

    Args:
        rate: requests per second.
        duration: seconds of arrivals.
        n, beam_width: how every reply is decoded.

    Raises:
        TraceError: no pair is short enough.
    """
    shuffler = random.Random(seed)
    counts = np.random.RandomState(seed).poisson(rate * BIN_TIME, size=round(duration / BIN_TIME))
    pairs = [(row.prompt_len, row.output_len) for row in rows]
    pairs = [(p, o) for p, o in pairs if min(p, o) > 0 and p + o < MAX_TOTAL_LEN]
    if not pairs:
        raise TraceError(
            f"no row has a prompt and an output that are together below {MAX_TOTAL_LEN} tokens: "
            "give a trace with shorter ones"
        )
    num_requests = int(counts.sum())
    chosen = (pairs * -(-num_requests // len(pairs)))[:num_requests]
    shuffler.shuffle(chosen)
    times = np.repeat(np.arange(len(counts)) * BIN_TIME, counts).tolist()
    return [
        Request(i, time, Prompt(prompt_len, seed=i), SamplingParams(output_len, n, beam_width))
        for i, (time, (prompt_len, output_len)) in enumerate(zip(times, chosen, strict=True))
    ]
