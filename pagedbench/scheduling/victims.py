"""Victim policies: which running request loses its memory when a sequence needs a slot and none is free."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from pagedbench.scheduling.return_modes import CountedTokens, Recompute

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.manager import KVManager
    from pagedbench.request import SequenceGroup
    from pagedbench.scheduling.return_modes import ReturnMode


class VictimPolicy(ABC):
    """Decides `--victim`: which group to preempt. Your own policy is built as `Class()`.

    Attributes:
        mode: how victims get their tokens back; `mode.cost(group, memory)` is what that costs.
    """

    mode: ReturnMode = Recompute(CountedTokens())

    @abstractmethod
    def choose(self, candidates: Items[SequenceGroup], memory: KVManager) -> SequenceGroup:
        """The victim among running groups that have not grown in this iteration, oldest first.

        The oldest running group is never among them, so it makes progress whatever the answer.
        """


class Latest(VictimPolicy):
    """The latest arrival: the rule of the paper (section 4.5), first come, first served."""

    def choose(self, candidates: Items[SequenceGroup], memory: KVManager) -> SequenceGroup:
        return candidates[-1]


class LeastComputed(VictimPolicy):
    """The fewest tokens in the cache, so that the fewest are computed again; among equals, the latest."""

    def choose(self, candidates: Items[SequenceGroup], memory: KVManager) -> SequenceGroup:
        return min(reversed(candidates), key=num_stored)


class MostComputed(VictimPolicy):
    """The most tokens in the cache: few victims, each of them expensive; among equals, the latest."""

    def choose(self, candidates: Items[SequenceGroup], memory: KVManager) -> SequenceGroup:
        return max(reversed(candidates), key=num_stored)


class MostFreed(VictimPolicy):
    """The most memory that no other group uses; among equals, the latest."""

    def choose(self, candidates: Items[SequenceGroup], memory: KVManager) -> SequenceGroup:
        return max(reversed(candidates), key=memory.num_reclaimable)


class Cheapest(VictimPolicy):
    """The lowest cost of its return per slot that becomes free; among equals, the latest.

    The cost is that of computing its tokens again or of swapping them, whichever `--preemption` would do.
    A victim is expensive if other groups share its memory, and if its prompt is long.
    """

    def choose(self, candidates: Items[SequenceGroup], memory: KVManager) -> SequenceGroup:
        def cost(group: SequenceGroup) -> float:
            return self.mode.cost(group, memory) / max(memory.num_reclaimable(group), 1)

        return min(reversed(candidates), key=cost)


class Random(VictimPolicy):
    """Any of them, with equal probability; equal runs choose alike."""

    def __init__(self) -> None:
        self._numbers = random.Random(0)

    def choose(self, candidates: Items[SequenceGroup], memory: KVManager) -> SequenceGroup:
        return candidates[self._numbers.randrange(len(candidates))]


class OracleShortestLeft(VictimPolicy):
    """The fewest tokens left to generate, which only a trace knows; among equals, the latest."""

    def choose(self, candidates: Items[SequenceGroup], memory: KVManager) -> SequenceGroup:
        return min(reversed(candidates), key=lambda group: group.final_len - group.sequences[0].num_tokens)


def num_stored(group: SequenceGroup) -> int:
    """Tokens of the group whose keys and values are stored; shared ones count once per sequence."""
    return sum(sequence.num_stored for sequence in group.sequences)


VICTIMS: dict[str, type[VictimPolicy]] = {
    "latest": Latest,
    "least-computed": LeastComputed,
    "most-freed": MostFreed,
    "cheapest": Cheapest,
    "most-computed": MostComputed,
    "random": Random,
    "oracle-shortest-left": OracleShortestLeft,
}
"""The policies by the names of `--victim`, the default first."""
