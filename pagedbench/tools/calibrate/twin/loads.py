"""Loads: requests from whose token times a client can infer the costs of a server's iterations."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.workload.sessions import Wait
from pagedbench.workload.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

PAUSE = 0.05
"""Seconds between a reply and the next request, in which the server becomes idle."""

SHORT_PROMPT, MIDDLE_PROMPT = 32, 400
LONGEST_PROMPT = 1900
PROBE_OUTPUT = 16
BURST_OUTPUT = 24
MAX_BURST = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the server, according to the user.

    Attributes:
        longest: tokens of prompt and reply.
        sequences: sequences that run at once.
        batched_tokens: the token budget of an iteration.
        kept_tokens: tokens in its KV pool.
        is_chunked: prompts that exceed the budget are computed in chunks.
    """

    longest: int
    sequences: int
    batched_tokens: int
    kept_tokens: int
    is_chunked: bool

    @property
    def prompt(self) -> int:
        """The longest prompt that is sent: it leaves room for a reply, and fits one iteration."""
        room = self.longest - 2 * BURST_OUTPUT - 1
        return max(min(room, self.batched_tokens - 1, self.kept_tokens // 2, LONGEST_PROMPT), 1)


@dataclass(slots=True)
class Builder:
    """Collects the requests of a load; no two prompts share anything."""

    name: str
    first_seed: int
    requests: list[Request] = field(default_factory=list)
    waits: list[Wait | None] = field(default_factory=list)

    def add(self, prompt: int, output: int, after: Items[int] = (), pause: float = PAUSE) -> int:
        """Add a request that waits for the replies to the requests `after`; returns its id."""
        number = len(self.requests)
        content = Prompt(prompt, seed=self.first_seed + number)
        self.requests.append(Request(number, 0.0, content, SamplingParams(output), output))
        self.waits.append(Wait(tuple(after), pause) if after else None)
        return number

    def trace(self) -> Trace:
        """The load; requests that wait for no reply arrive at once."""
        source, arrival = "designed for calibration", "in turn"
        return Trace(self.name, tuple(self.requests), source, True, arrival, waits=tuple(self.waits))


def probe(limits: Limits, seed: int) -> Trace:
    """A few requests, one after another, from which the speed of the server is estimated."""
    load = Builder("probe", seed << 32)
    last: tuple[int, ...] = ()
    for prompt in (SHORT_PROMPT, min(MIDDLE_PROMPT, limits.prompt)) * 2:
        last = (load.add(min(prompt, limits.prompt), PROBE_OUTPUT, last),)
    return load.trace()


def designed_loads(limits: Limits, seed: int) -> list[Trace]:
    """Loads that vary one thing at a time: single prompts, bursts, and prompts while others decode."""
    seeds = itertools.count((seed << 32) + (1 << 20), 1 << 20)
    alone = _alone(limits, next(seeds))
    bursts = [
        _burst(prompt, count, next(seeds))
        for prompt in _distinct((SHORT_PROMPT, MIDDLE_PROMPT), limits.prompt)
        for count in _burst_sizes(limits, prompt)
    ]
    beside = [_beside(limits, count, next(seeds)) for count in _distinct((2, 8, 24), limits.sequences - 2)]
    return [alone, *bursts, *beside]


def _distinct(values: Items[int], most: int) -> list[int]:
    return list(dict.fromkeys(max(min(value, most), 1) for value in values))


def _burst_sizes(limits: Limits, prompt: int) -> list[int]:
    """2, 4, 8 … up to the most sequences that the server runs at once."""
    most = min(limits.sequences, limits.kept_tokens // (prompt + 2 * BURST_OUTPUT), MAX_BURST)
    sizes = [2**power for power in range(1, 10) if 2**power < most]
    return [*sizes, most] if most > 1 else sizes


def _alone(limits: Limits, seed: int) -> Trace:
    """Prompts of many lengths, one after another, twice: first tokens, and decodes of one sequence."""
    load = Builder("alone", seed)
    last: tuple[int, ...] = ()
    lengths = _distinct((8, 16, 32, 64, 128, 256, 512, 900, 1400, LONGEST_PROMPT), limits.prompt)
    for prompt in (*lengths, *reversed(lengths)):
        last = (load.add(prompt, 8, last),)
    return load.trace()


def _burst(prompt: int, count: int, seed: int) -> Trace:
    """Equal prompts at once; replies of unequal length, so that the batch shrinks in steps."""
    load = Builder(f"burst of {count}, prompts of {prompt}", seed)
    for number in range(count):
        load.add(prompt, BURST_OUTPUT // 2 + 1 + BURST_OUTPUT * number // count)
    return load.trace()


def _beside(limits: Limits, count: int, seed: int) -> Trace:
    """Prompts of several lengths, one after another, while other sequences decode all the time."""
    load = Builder(f"prompts beside {count} decodes", seed)
    lengths = _distinct((24, 100, 300, 700, 1200), limits.prompt)
    output = min(len(lengths) * 12, limits.longest - SHORT_PROMPT - 1)
    for _ in range(count):
        load.add(min(SHORT_PROMPT, limits.prompt), output)
    first = load.add(min(SHORT_PROMPT, limits.prompt), 4)
    last = (first,)
    for prompt in lengths:
        last = (load.add(prompt, 6, last, pause=0.0),)
    return load.trace()
