"""Who loses its memory when running sequences cannot grow: the latest arrival, or whom a policy names."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pagedbench.memory.manager import KVManager
    from pagedbench.request import SequenceGroup


def serve_oldest_first(
    groups: Iterable[SequenceGroup],
    memory: KVManager,
    grow: Callable[[SequenceGroup], None],
    choose: Callable[[Sequence[SequenceGroup]], SequenceGroup],
    preempt: Callable[[SequenceGroup, SequenceGroup], None],
) -> None:
    """Let running groups grow, oldest first, preempting later ones as long as memory does not suffice.

    The rule of the paper (section 4.5) and of the authors' scheduler: a group needs one free block for
    each of its sequences, used or not; if nobody newer is left, it preempts itself. One exception
    keeps an engine with a tiny pool alive: a group that is all alone needs no more than it uses.

    Args:
        groups: the running groups, oldest first.
        grow: gives a slot to those of the group's sequences that have none left.
        choose: the victim among the groups that have not grown yet, oldest first.
        preempt: takes all memory from a group (the first) because of another (the second).
    """
    pending = deque(groups)
    num_served = 0
    while pending:
        group = pending.popleft()
        while not memory.can_append(group) and (pending or num_served):
            victim = choose(pending) if pending else group
            if victim is not group:
                pending.remove(victim)
            preempt(victim, group)
            if victim is group:
                return
        grow(group)
        num_served += 1
