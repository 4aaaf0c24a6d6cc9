"""BlockNumbers: the ids of blocks in a trace as numbers from 0 in order of first appearance."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pagedbench.workload.rows import TraceError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_SMALL = 2**24
"""Ids below this are looked up in a list, which takes a third of the memory of a dictionary."""

MAX_LARGE = 1_500_000
"""Most different ids that are not small, such as hashes of 64 bits."""


class BlockNumbers:
    """Gives each id a number: one int object wherever the id occurs, so that it takes 8 bytes there."""

    def __init__(self, source: str, first: int = 0, most: int = 2**31) -> None:
        """
        Args:
            source: the file's name, for error messages.
            first: the first number.
            most: how many different ids there may be.
        """
        self._source = source
        self._next = first
        self._end = first + most
        self._small: list[int | None] = []
        self._large: dict[int | str, int] = {}

    def of(self, ids: Sequence[int] | Sequence[str]) -> tuple[int, ...]:
        """The numbers of a prompt's blocks, whose ids are all whole numbers, or all texts.

        Raises:
            TraceError: there are more different ids than memory holds.
        """
        if not ids or isinstance(ids[0], str):
            return tuple([self._number(key) for key in ids])
        keys = cast("Sequence[int]", ids)
        if min(keys) < 0 or max(keys) >= MAX_SMALL:
            return tuple([self._number(key) for key in keys])
        small = self._small
        small.extend([None] * (max(keys) + 1 - len(small)))
        found = [small[key] for key in keys]
        if None in found:  # the beginning of most prompts is known
            start = found.index(None)
            found[start:] = [self._number(key) for key in keys[start:]]
        return tuple(cast("list[int]", found))

    def _number(self, key: int | str) -> int:
        if isinstance(key, int) and 0 <= key < MAX_SMALL:
            self._small.extend([None] * (key + 1 - len(self._small)))
            number = self._small[key]
            if number is None:
                number = self._small[key] = self._take()
            return number
        if key not in self._large:
            if len(self._large) == MAX_LARGE:
                raise TraceError(
                    f"{self._source} has more than {MAX_LARGE:,} different large block ids: number the "
                    "blocks from 0, or keep only a part of the trace"
                )
            self._large[key] = self._take()
        return self._large[key]

    def _take(self) -> int:
        if self._next == self._end:
            raise TraceError(f"{self._source} has too many different block ids: keep only a part of it")
        self._next += 1
        return self._next - 1
