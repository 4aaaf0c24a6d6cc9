"""Agenda: what falls due in which decoding iteration."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Due(list[Item]):
    """The items that fall due in iteration `when`."""

    __slots__ = ("when",)

    def __init__(self, when: int) -> None:
        super().__init__()
        self.when = when


class Agenda(Generic[Item]):
    """Items by the number of the iteration in which they are due."""

    def __init__(self) -> None:
        self._due: dict[int, Due[Item]] = {}  # none of them is empty
        self._of: dict[Item, Due[Item]] = {}

    def add(self, when: int, item: Item) -> None:
        """`item`, which is not on the agenda, is due in iteration `when`."""
        assert item not in self._of, f"{item} is on the agenda twice"
        if when not in self._due:
            self._due[when] = Due(when)
        self._of[item] = due = self._due[when]
        due.append(item)

    def remove(self, item: Item) -> None:
        """Take `item` off the agenda, if it is on it."""
        due = self._of.pop(item, None)
        if due is not None:
            due.remove(item)
            if not due:
                del self._due[due.when]

    def move(self, when: int, item: Item) -> None:
        """`item` is due in iteration `when`, whatever was planned."""
        self.remove(item)
        self.add(when, item)

    def is_due(self, item: Item, when: int) -> bool:
        """Is `item` due in iteration `when`?"""
        return item in self._of and self._of[item].when == when

    def num_due(self, when: int) -> int:
        """How many items are due in iteration `when`."""
        return len(self._due.get(when, ()))

    @property
    def next_due(self) -> float:
        """No item is due before this iteration."""
        return min(self._due, default=math.inf)

    def take(self, when: int) -> list[Item]:
        """Take what is due in iteration `when` off the agenda."""
        due = self._due.pop(when, None)
        if due is None:
            return []
        for item in due:
            del self._of[item]
        return due

    def postpone(self, when: int, later: int) -> list[Item]:
        """What is due in iteration `when` is due in iteration `later` instead. Not to be changed."""
        due = self._due.pop(when)
        if later in self._due:
            for item in due:
                self._of[item] = self._due[later]
            self._due[later] += due
        else:
            self._due[later], due.when = due, later
        return due
