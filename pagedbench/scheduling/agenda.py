"""Agenda: what falls due in which decoding iteration."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Agenda(Generic[Item]):
    """Items by the number of the iteration in which they are due."""

    def __init__(self) -> None:
        self._due: dict[int, list[Item]] = {}
        self._when: dict[Item, int] = {}

    def add(self, when: int, item: Item) -> None:
        """`item`, which is not on the agenda, is due in iteration `when`."""
        assert item not in self._when, f"{item} is on the agenda twice"
        self._when[item] = when
        if when in self._due:
            self._due[when].append(item)
        else:
            self._due[when] = [item]

    def add_all(self, when: int, items: list[Item]) -> None:
        """These items, none of which is on the agenda, are due in iteration `when`. Keeps the list."""
        self._when.update(dict.fromkeys(items, when))
        if when in self._due:
            self._due[when] += items
        elif items:
            self._due[when] = items

    def remove(self, item: Item) -> None:
        """Take `item` off the agenda, if it is on it."""
        when = self._when.pop(item, None)
        if when is not None:
            self._due[when].remove(item)

    def move(self, when: int, item: Item) -> None:
        """`item` is due in iteration `when`, whatever was planned."""
        self.remove(item)
        self.add(when, item)

    def is_due(self, item: Item, when: int) -> bool:
        """Is `item` due in iteration `when`?"""
        return self._when.get(item) == when

    def num_due(self, when: int) -> int:
        """How many items are due in iteration `when`."""
        return len(self._due.get(when, ()))

    @property
    def next_due(self) -> float:
        """No item is due before this iteration."""
        return min(self._due, default=math.inf)

    def take(self, when: int) -> list[Item]:
        """Take what is due in iteration `when` off the agenda."""
        items = self._due.pop(when, None)
        if items is None:
            return []
        for item in items:
            del self._when[item]
        return items
