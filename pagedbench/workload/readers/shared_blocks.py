"""Block numbers over sessions whose ids are local: equal tools and system prompts are the same blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    Key = tuple[int, int, int | None, int]
    """Block size, tokens of tools, tokens of the system prompt after them, and the block's index."""


class SharedBlocks:
    """The numbers of all sessions' blocks, from 0 in order of first appearance.

    ::

        a prompt     | tools      | system prompt | the session's own text
        its blocks   |  0  |  1  |  2  |  3  |  4  |  5  |
        shared by     all with    all with both    no other session
                      these tools
    """

    def __init__(self) -> None:
        self.num_blocks = 0
        self._known: dict[Key, int] = {}

    def number(self, key: Key | None) -> int:
        """The number of a block that has none yet in its session; None: no other session has it."""
        if key is not None and key in self._known:
            return self._known[key]
        number = self.num_blocks
        self.num_blocks += 1
        if key is not None:
            self._known[key] = number
        return number


class SessionBlocks:
    """Translates the numbers of one session, which count from `first`, to those of all sessions."""

    def __init__(self, shared: SharedBlocks, first: int, block_size: int) -> None:
        self._shared = shared
        self._first = first
        self._block_size = block_size
        self._keys: dict[int, Key] = {}
        self._found: list[int | None] = []

    def share(self, ids: Sequence[int], tool_tokens: int, system_tokens: int) -> None:
        """Declare how many tokens of tools and of system prompt a prompt of these blocks begins with.

        Blocks that end within the tools are shared by all agents with equally long tools, the others by
        those that also have equally long system prompts.
        """
        for place, own in enumerate(ids):
            end = (place + 1) * self._block_size
            if end > tool_tokens + system_tokens:
                return
            system = None if end <= tool_tokens else system_tokens
            key = (self._block_size, tool_tokens, system, place)
            if self._keys.setdefault(own, key) != key:
                return

    def of(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The numbers over all sessions of a prompt's blocks."""
        found, first = self._found, self._first
        missing = max(ids, default=first - 1) + 1 - first - len(found)
        found.extend([None] * max(missing, 0))
        known = [found[own - first] for own in ids]
        if None in known:  # the beginning of most prompts is known
            start = known.index(None)
            known[start:] = [self._number(own) for own in ids[start:]]
        return tuple(cast("list[int]", known))

    def _number(self, own: int) -> int:
        number = self._found[own - self._first]
        if number is None:
            number = self._found[own - self._first] = self._shared.number(self._keys.get(own))
        return number
