"""Which group loses its memory when running ones cannot grow: the latest arrival, or a policy's choice."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pagedbench.request import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pagedbench.memory.manager import KVManager
    from pagedbench.request import SequenceGroup
    from pagedbench.scheduling.victims import VictimPolicy


def serve_oldest_first(
    groups: Iterable[SequenceGroup],
    memory: KVManager,
    grow: Callable[[SequenceGroup], None],
    policy: VictimPolicy,
    preempt: Callable[[SequenceGroup, SequenceGroup], None],
) -> None:
    """Let running groups grow, oldest first, preempting later ones as long as memory does not suffice.

    The rule of the paper (section 4.5) and of the authors' scheduler: a group that decodes needs one free
    block for each of its sequences, whether they use it or not; if there is no later group to preempt, it
    preempts itself. One exception lets a tiny pool serve a large request: a group that runs alone needs
    only what it uses.

    Args:
        groups: the running groups, oldest first.
        grow: gives a slot to those of the group's sequences that have none left.
        policy: chooses the victim among the groups that have not grown yet.
        preempt: takes all memory from a group (the first) because of another (the second).
    """
    pending = deque(groups)
    num_served = 0
    while pending:
        group = pending.popleft()
        num_served += 1
        if group.status is Status.PREFILLING:
            continue  # it has the slots of its prompt
        while not memory.can_append(group) and (pending or num_served > 1):
            victim = policy.choose(pending, memory) if pending else group
            if victim is not group:
                pending.remove(victim)
            preempt(victim, group)
            if victim is group:
                return
        grow(group)
