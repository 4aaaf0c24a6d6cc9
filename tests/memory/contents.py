"""The tokens behind the slots: a device and a host pool in which every slot holds a token with a name."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeAlias

from pagedbench.memory.moves import Pool
from pagedbench.prompt import Prompt, Segment
from pagedbench.request import Request, SamplingParams, SequenceGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pagedbench.memory.moves import Copy

Token: TypeAlias = object
"""Equal exactly where keys and values would be equal: a prompt token's content, or a name of its own."""


class LateDisk:
    """A disk that ends or fails to read when it likes; until then, what it reads into holds nothing."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._chance = random.Random(0)
        self._read: list[Copy] = []

    @property
    def room(self) -> int:
        return 0 if self._chance.random() < 0.1 else 10**6

    def write(self, copies: Iterable[Copy]) -> None:
        self._contents.copy(copies)

    def read(self, copies: Iterable[Copy]) -> None:
        assert not self._read, "two reads at a time"
        self._read = list(copies)
        self._fill("being read")

    def _fill(self, token: Token) -> None:
        for copy in self._read:
            for slot in range(copy.destination, copy.destination + copy.num_slots):
                self._contents.pools[copy.destination_pool][slot] = token

    def poll(self) -> bool | None:
        if not self._read or self._chance.random() < 0.5:
            return None
        has_succeeded = self._chance.random() < 0.9
        if has_succeeded:
            self._contents.copy(self._read)
        else:
            self._fill("not read")
        self._read = []
        return has_succeeded

    def wait(self, clock: object, until: float | None) -> bool:
        return bool(self._read)

    def close(self) -> None:
        pass


class Contents:
    """What the slots hold. Changes are executed in the order that a batch prescribes."""

    def __init__(self) -> None:
        self.pools: dict[Pool, dict[int, Token]] = {pool: {} for pool in Pool}
        self.device = self.pools[Pool.DEVICE]

    def move(self, *moves: Iterable[Copy]) -> None:
        """Copies in this order, of each iterable all of which read before any writes."""
        for copies in moves:
            self.copy(copies)

    def copy(self, copies: Iterable[Copy]) -> None:
        """Copies between two pools, or within one; all read before any writes."""
        read: list[tuple[Pool, int, Token]] = []
        for copy in copies:
            assert copy.num_slots > 0
            for i in range(copy.num_slots):
                token = self.pools[copy.source_pool].get(copy.source + i)
                read.append((copy.destination_pool, copy.destination + i, token))
        targets = [(pool, slot) for pool, slot, _ in read]
        assert len(set(targets)) == len(targets), "two copies write one slot"
        for pool, slot, token in read:
            self.pools[pool][slot] = token

    def write(self, cells: Iterable[tuple[int, Token]], live: Mapping[int, Token]) -> None:
        """Store tokens in slots; a token that may still be read must not change."""
        for slot, token in cells:
            assert live.get(slot, token) == token, f"slot {slot} is written, but its token is in use"
            self.device[slot] = token


def group_of(
    order: int, own_len: int, output_len: int, n: int = 1, *, shared_len: int = 0, text: int = 0
) -> SequenceGroup:
    """A group whose prompt is the first `shared_len` tokens of a text, and `own_len` of its own."""
    prefix = (Segment(text, 0, shared_len),) if shared_len else ()
    prompt = Prompt(shared_len + own_len, 1000 + order, prefix=prefix)
    return SequenceGroup(Request(order, 0.0, prompt, SamplingParams(output_len, n)), order)


def text_of(text: int, length: int) -> Prompt:
    """The beginning of a shared text, to be registered."""
    return Prompt(length, prefix=(Segment(text, 0, length),))
