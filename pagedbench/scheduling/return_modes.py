"""Return modes: how a preempted group gets its tokens back, and what that costs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager
    from pagedbench.request import SequenceGroup


class ReturnCosts(Protocol):
    """Estimates what the return of a preempted group costs, in seconds."""

    def recompute_time(self, num_tokens: int) -> float:
        """Seconds to compute `num_tokens` more tokens of one prompt in an iteration."""
        ...

    def swap_time(self, num_slots: int) -> float:
        """Seconds to move `num_slots` tokens' keys and values to the host and back."""
        ...


class CountedTokens:
    """Costs where no time is known: the number of tokens computed again; a swap costs nothing."""

    def recompute_time(self, num_tokens: int) -> float:
        return num_tokens

    def swap_time(self, num_slots: int) -> float:
        return math.inf


class ReturnMode(ABC):
    """Decides `--preemption`: are a victim's tokens swapped or computed again?"""

    def __init__(self, costs: ReturnCosts) -> None:
        self._costs = costs

    @abstractmethod
    def wants_swap(self, group: SequenceGroup, memory: KVManager) -> bool:
        """Should the running group move to the host, if there is room?"""

    def cost(self, group: SequenceGroup, memory: KVManager) -> float:
        """What the running group's return costs if it loses its memory now."""
        if self.wants_swap(group, memory):
            return self.swap_cost(group, memory)
        return self.recompute_cost(group, memory)

    def swap_cost(self, group: SequenceGroup, memory: KVManager) -> float:
        """The cost of swapping the group; blocks shared with other groups are moved too."""
        return self._costs.swap_time(memory.num_held_slots(group))

    def recompute_cost(self, group: SequenceGroup, memory: KVManager) -> float:
        """The cost of recomputing the group; tokens that a prefix cache holds now are not counted."""
        return self._costs.recompute_time(memory.prefill_len(group))


class Auto(ReturnMode):
    """The paper's rule: a single sequence is recomputed; several, which share blocks, are swapped."""

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
    """Whichever costs less, by the estimate."""

    def wants_swap(self, group: SequenceGroup, memory: KVManager) -> bool:
        return self.swap_cost(group, memory) < self.recompute_cost(group, memory)


RETURN_MODES: dict[str, type[ReturnMode]] = {
    "auto": Auto,
    "recompute": Recompute,
    "swap": Swap,
    "cheapest": Cheaper,
}
"""The modes by the names of `--preemption`, the default first."""
