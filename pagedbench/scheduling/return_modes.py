"""Return modes: how a preempted group gets its tokens back, and what that costs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager
    from pagedbench.request import SequenceGroup


class ReturnCosts(Protocol):
    """What the return of a preempted group costs, in seconds; it is an estimate and changes no result."""

    def recompute_time(self, num_tokens: int) -> float:
        """To compute `num_tokens` tokens of one prompt, beside what the iteration computes anyway."""
        ...

    def swap_time(self, num_slots: int) -> float:
        """To move `num_slots` tokens' keys and values to the host and back."""
        ...


class CountedTokens:
    """Costs where no time is known: the number of tokens computed again, and no price for a swap."""

    def recompute_time(self, num_tokens: int) -> float:
        return num_tokens

    def swap_time(self, num_slots: int) -> float:
        return math.inf


class ReturnMode(ABC):
    """Answers the question of `--preemption`: are a victim's tokens swapped or computed again?"""

    def __init__(self, costs: ReturnCosts) -> None:
        self._costs = costs

    @abstractmethod
    def wants_swap(self, group: SequenceGroup, memory: KVManager) -> bool:
        """Shall the running group move to the host, if there is room?"""

    def cost(self, group: SequenceGroup, memory: KVManager) -> float:
        """What the running group's return costs if it loses its memory now."""
        if self.wants_swap(group, memory):
            return self.swap_cost(group, memory)
        return self.recompute_cost(group, memory)

    def swap_cost(self, group: SequenceGroup, memory: KVManager) -> float:
        """Blocks that others use are moved like its own."""
        return self._costs.swap_time(memory.num_held_slots(group))

    def recompute_cost(self, group: SequenceGroup, memory: KVManager) -> float:
        """What a prefix cache holds is not computed again, if it is still there."""
        return self._costs.recompute_time(memory.prefill_len(group))


class Auto(ReturnMode):
    """The paper's rule: one sequence is computed again; groups, which share blocks, are swapped."""

    def wants_swap(self, group: SequenceGroup, memory: KVManager) -> bool:
        return group.num_sequences > 1


class Recompute(ReturnMode):
    """Always computed again."""

    def wants_swap(self, group: SequenceGroup, memory: KVManager) -> bool:
        return False


class Swap(ReturnMode):
    """Always swapped."""

    def wants_swap(self, group: SequenceGroup, memory: KVManager) -> bool:
        return True


class Cheaper(ReturnMode):
    """What costs less, by the estimate."""

    def wants_swap(self, group: SequenceGroup, memory: KVManager) -> bool:
        return self.swap_cost(group, memory) < self.recompute_cost(group, memory)


RETURN_MODES: dict[str, type[ReturnMode]] = {
    "auto": Auto,
    "recompute": Recompute,
    "swap": Swap,
    "cheapest": Cheaper,
}
"""The modes by the names of `--preemption`, the default first."""
