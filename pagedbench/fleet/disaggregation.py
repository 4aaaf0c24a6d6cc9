"""Disaggregated prefill and decode: the same scheduler; requests leave or come after their first token.

::

    prefill replica   | prompt, token 1 | blocks are kept ............... | free
    link                                | waits | moves |
    decode replica                                      | waits for room | tokens 2 to n |

A prompt's keys and values stay at the prefill replica until the decode replica has admitted the request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.request import Status
from pagedbench.scheduling.iteration_level import IterationLevel

if TYPE_CHECKING:
    from pagedbench.engine import Engine
    from pagedbench.memory.manager import KVManager
    from pagedbench.request import Request, SequenceGroup
    from pagedbench.scheduling.batch import Prefill
    from pagedbench.scheduling.scheduler import Limits


class PrefillScheduler(IterationLevel):
    """Serves requests of one token; their blocks stay taken until they are released."""

    def complete(self, group: SequenceGroup) -> None:
        self.withdraw(group)
        self.finish(group)

    def release(self, group: SequenceGroup) -> None:
        """Free the group's keys and values, which have been moved or are not needed."""
        for sequence in group.sequences:
            self.memory.finish(sequence)


class DecodeScheduler(IterationLevel):
    """Serves requests whose prompts were computed elsewhere: once admitted, they decode.

    A request that is preempted by recomputation computes its prompt here, as in any engine.
    """

    def __init__(self, memory: KVManager, limits: Limits) -> None:
        super().__init__(memory, limits)
        self._arrived: list[int] = []

    def admit(self, group: SequenceGroup, max_tokens: int | None = None) -> list[Prefill]:
        if group.num_preemptions:
            return super().admit(group, max_tokens)
        self.memory.allocate(group)
        group.admit_step = self._step
        for sequence in group.sequences:
            sequence.compute(sequence.num_tokens, sequence.num_tokens)
            self.memory.mark_computed(sequence, sequence.num_tokens)
        self.join(group)
        self.resume(group, prefill_step=None)
        for sequence in group.sequences:
            self.plan_growth(sequence)
        self._arrived.append(group.request.request_id)
        return []

    def take_arrived(self) -> list[int]:
        """Ids of requests that were admitted since the last call: their keys and values are here."""
        arrived, self._arrived = self._arrived, []
        return arrived


def check_scheduler(engine: Engine) -> None:
    """Refuse engines whose prefill and decode cannot be separated.

    Raises:
        ConfigError: the scheduler, the admission policy or the memory manager does not allow it.
    """
    scheduler = engine.scheduler
    if type(scheduler) is not IterationLevel:
        raise ConfigError(
            f"--disaggregate needs iteration-level batching, which {type(scheduler).__name__} is not"
        )
    if scheduler.limits.admission.admits_chunks:
        raise ConfigError(
            "--disaggregate and --admission prompt-first-chunk contradict each other: prompts come whole"
        )
    if not engine.memory.preempts:
        raise ConfigError(
            "--disaggregate needs a manager of blocks: others reserve room for the reply with the prompt"
        )


def with_scheduler(engine: Engine, kind: type[IterationLevel]) -> Engine:
    """The engine with a scheduler of this class, and with the same memory and limits."""
    engine.scheduler = kind(engine.memory, engine.scheduler.limits)
    return engine


def prefill_part(request: Request) -> Request:
    """The request for a prefill replica: its first token."""
    return replace(request, sampling=replace(request.sampling, max_tokens=1), output_len=1)


def has_decode_part(request: Request) -> bool:
    """Is there more than the first token?"""
    return request.reply_len > 1


@dataclass(frozen=True, slots=True)
class Link:
    """The outgoing link of a prefill replica, over which one prompt's keys and values move at a time.

    Attributes:
        bandwidth: bytes per second.
        latency: seconds before the first byte arrives.
    """

    bandwidth: float
    latency: float

    def seconds(self, num_bytes: int) -> float:
        """How long moving these bytes occupies the link."""
        return num_bytes / self.bandwidth


@dataclass(slots=True)
class Transfers:
    """The prompts that wait to be moved, or to be admitted at their decode replica.

    Attributes:
        num_bytes, seconds: bytes moved so far, and the time that it took, waiting for the link included.
    """

    link: Link
    token_bytes: int
    number: int = 0
    num_bytes: int = 0
    seconds: float = 0.0

    def begin(self, group: SequenceGroup, now: float, free_time: float) -> tuple[float, float]:
        """Move the group's prompt. `free_time`: the time at which the link becomes free.

        Returns when all of it has arrived, and when the link is free again.
        """
        assert group.status is Status.FINISHED, "there is nothing to move"
        num_bytes = group.prompt_len * self.token_bytes
        free_time = max(now, free_time) + self.link.seconds(num_bytes)
        arrival = free_time + self.link.latency
        self.number += 1
        self.num_bytes += num_bytes
        self.seconds += arrival - now
        return arrival, free_time
