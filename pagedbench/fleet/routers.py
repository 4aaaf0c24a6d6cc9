"""Routers: which replica an arriving request is sent to. One class per rule; `--router` takes their names.

A router has two kinds of knowledge. It sees every request go out and every reply come back, so its own
counts (`outstanding`) are never stale. What replicas report about themselves (`load`, `num_cached`) may be
as old as `--staleness`.
"""

from __future__ import annotations

import random
import zlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Items

    from pagedbench.fleet.replica_view import ReplicaView
    from pagedbench.memory.prefix import Key


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a router sees of a request; the length of the reply is not known.

    Attributes:
        keys: the keys of the prompt's full blocks, equal as far as two prompts have the same prefix; empty
            for routers that do not read prompts.
    """

    request_id: int
    prompt_len: int
    session_id: str | None = None
    keys: Items[Key] = ()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a router is built with: a seed, the block size, and the number of blocks of a replica's pool."""

    seed: int = 0
    block_size: int = 16
    num_blocks: int = 1


class Router(ABC):
    """Chooses a replica for each request.

    Your own class, for `--router module:Class`, is built as `Class(surroundings)`.

    Attributes:
        reads_prompts: does it need `Arrival.keys`?
        reads_caches: does it need `ReplicaView.num_cached`?
        is_blind: does the choice depend only on earlier arrivals, and not on what replicas do?
    """

    reads_prompts: ClassVar[bool] = False
    reads_caches: ClassVar[bool] = False
    is_blind: ClassVar[bool] = False

    def __init__(self, surroundings: Surroundings) -> None:
        self.surroundings = surroundings
        self._num_ties = 0

    @abstractmethod
    def choose(self, arrival: Arrival, replicas: Items[ReplicaView]) -> ReplicaView:
        """One of these replicas, which are all that take requests now."""

    def least(self, replicas: Items[ReplicaView], cost: Callable[[ReplicaView], float]) -> ReplicaView:
        """The replica with the least cost; equal ones take turns."""
        costs = [cost(replica) for replica in replicas]
        lowest = min(costs)
        equals = [replica for replica, own in zip(replicas, costs, strict=True) if own == lowest]
        self._num_ties += 1
        return equals[self._num_ties % len(equals)]


class RoundRobin(Router):
    """One after another."""

    is_blind = True

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._num_sent = 0

    def choose(self, arrival: Arrival, replicas: Items[ReplicaView]) -> ReplicaView:
        self._num_sent += 1
        return replicas[(self._num_sent - 1) % len(replicas)]


class Random(Router):
    """Any, with equal probability."""

    is_blind = True

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._random = random.Random(surroundings.seed)

    def choose(self, arrival: Arrival, replicas: Items[ReplicaView]) -> ReplicaView:
        return replicas[self._random.randrange(len(replicas))]


class SessionAffinity(Router):
    """All turns of a session go to one replica, which a hash chooses (rendezvous hashing).

    When a replica is added or leaves, only the sessions that it gets or had move.
    """

    is_blind = True

    def choose(self, arrival: Arrival, replicas: Items[ReplicaView]) -> ReplicaView:
        session = arrival.session_id if arrival.session_id is not None else f"#{arrival.request_id}"
        seed = self.surroundings.seed
        return max(replicas, key=lambda replica: _hash(f"{seed} {session} {replica.number}"))


class LeastOutstanding(Router):
    """The fewest requests that were sent there and have not ended."""

    def choose(self, arrival: Arrival, replicas: Items[ReplicaView]) -> ReplicaView:
        return self.least(replicas, lambda replica: replica.outstanding)


class JoinShortestQueue(Router):
    """The fewest tokens: prompt and generated tokens of all requests that wait or run there.

    The replica reports them; prompts that were sent there since the report are added.
    """

    def choose(self, arrival: Arrival, replicas: Items[ReplicaView]) -> ReplicaView:
        return self.least(replicas, lambda replica: replica.load.num_tokens + replica.sent_tokens)


class LeastKVUse(Router):
    """The least share of the KV pool in use, as reported; requests sent since then are not considered."""

    def choose(self, arrival: Arrival, replicas: Items[ReplicaView]) -> ReplicaView:
        return self.least(replicas, lambda replica: replica.load.kv_use)


class PrefixAware(Router):
    """Where most of the prompt is cached, unless that replica has far more requests than another.

    In this case, and for prompts of which no replica has a block: the fewest outstanding requests.

    Attributes:
        max_ratio, min_excess: a replica has far more requests than the one with the fewest if it has more
            than `max_ratio` times as many, and `min_excess` more.
    """

    reads_prompts = reads_caches = True
    max_ratio: ClassVar[float] = 1.5
    min_excess: ClassVar[int] = 8

    def choose(self, arrival: Arrival, replicas: Items[ReplicaView]) -> ReplicaView:
        found = {replica.number: self.num_cached(replica, arrival) for replica in replicas}
        fewest = min(replica.outstanding for replica in replicas)
        most = max(self.max_ratio * fewest, fewest + self.min_excess)
        fair = [replica for replica in replicas if replica.outstanding <= most]
        best = max(found[replica.number] for replica in fair)
        equals = [replica for replica in fair if found[replica.number] == best]
        return self.least(equals, lambda replica: replica.outstanding)

    def num_cached(self, replica: ReplicaView, arrival: Arrival) -> int:
        """Blocks of the prompt, from its beginning, that the replica has."""
        return replica.num_cached(arrival.keys)


class PrefixApproximate(PrefixAware):
    """The same rule by the router's memory of what it sent where, without asking replicas for their caches.

    For each replica it remembers as many blocks as the replica's pool has, the most recently used.
    """

    reads_caches = False

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._sent: dict[int, OrderedDict[Key, None]] = {}

    def choose(self, arrival: Arrival, replicas: Items[ReplicaView]) -> ReplicaView:
        chosen = super().choose(arrival, replicas)
        sent = self._sent.setdefault(chosen.number, OrderedDict())
        for key in reversed(arrival.keys):  # the beginning of a prompt is forgotten last
            sent[key] = None
            sent.move_to_end(key)
        while len(sent) > self.surroundings.num_blocks:
            sent.popitem(last=False)
        return chosen

    def num_cached(self, replica: ReplicaView, arrival: Arrival) -> int:
        sent = self._sent.get(replica.number, ())
        return next((i for i, key in enumerate(arrival.keys) if key not in sent), len(arrival.keys))


class LlmD(Router):
    """llm-d's weighted scores: precise prefix 2, queue 1, KV use 1. The highest sum wins.

    Blocks found and queue lengths count relative to the best and the worst replica. Requests that were sent
    since the reports are not added.
    """

    reads_prompts = reads_caches = True
    prefix_weight: ClassVar[float] = 2.0
    queue_weight: ClassVar[float] = 1.0
    kv_weight: ClassVar[float] = 1.0

    def choose(self, arrival: Arrival, replicas: Items[ReplicaView]) -> ReplicaView:
        found = [float(replica.num_cached(arrival.keys)) for replica in replicas]
        queues = [float(replica.load.num_waiting) for replica in replicas]
        score = {
            replica.number: self.prefix_weight * prefix
            + self.queue_weight * (1 - queue)
            + self.kv_weight * (1 - replica.load.kv_use)
            for replica, prefix, queue in zip(replicas, _relative(found), _relative(queues), strict=True)
        }
        return self.least(replicas, lambda replica: -score[replica.number])


class Dynamo(Router):
    """Dynamo's cost: overlap weight x blocks of the prompt to compute + blocks in use by requests there.

    Cached blocks are known by the replicas' events; requests are those that the router sent.
    """

    reads_prompts = reads_caches = True
    overlap_weight: ClassVar[float] = 1.0

    def choose(self, arrival: Arrival, replicas: Items[ReplicaView]) -> ReplicaView:
        size = self.surroundings.block_size
        num_blocks = -(-arrival.prompt_len // size)

        def cost(replica: ReplicaView) -> float:
            num_new = num_blocks - replica.num_cached(arrival.keys)
            return self.overlap_weight * num_new + replica.outstanding_tokens / size

        return self.least(replicas, cost)


class Preble(Router):
    """Preble's rule: exploit the replica with the longest cached prefix if that is most of the prompt.

    Otherwise explore: the fewest outstanding prompt tokens.
    """

    reads_prompts = reads_caches = True

    def choose(self, arrival: Arrival, replicas: Items[ReplicaView]) -> ReplicaView:
        found = [replica.num_cached(arrival.keys) for replica in replicas]
        best = max(found)
        if 2 * best * self.surroundings.block_size > arrival.prompt_len:
            replicas = [item for item, own in zip(replicas, found, strict=True) if own == best]
        return self.least(replicas, lambda replica: replica.outstanding_tokens)


ROUTERS: dict[str, type[Router]] = {
    "round-robin": RoundRobin,
    "random": Random,
    "least-outstanding": LeastOutstanding,
    "join-shortest-queue": JoinShortestQueue,
    "session-affinity": SessionAffinity,
    "kv-use": LeastKVUse,
    "prefix": PrefixAware,
    "prefix-approximate": PrefixApproximate,
    "llm-d": LlmD,
    "dynamo": Dynamo,
    "preble": Preble,
}
"""Routers by name, the default first."""


def _hash(text: str) -> int:
    """A number for a text, the same on every machine; neighbouring texts give unrelated numbers."""
    return zlib.crc32(text.encode()) * 0x9E3779B1 & 0xFFFFFFFF


def _relative(values: list[float]) -> list[float]:
    """The values scaled from the least (0) to the greatest (1); 0 if all are equal."""
    low, width = min(values), max(values) - min(values)
    return [(value - low) / width if width else 0.0 for value in values]
