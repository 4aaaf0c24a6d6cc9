"""ExtentManager: the extents in use and what their slots are for, shared by all contiguous managers."""

from __future__ import annotations

import sys
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.manager import KVManager
from pagedbench.memory.moves import Copy
from pagedbench.memory.placement import Extent
from pagedbench.memory.usage import MemoryUsage

if TYPE_CHECKING:
    from pagedbench.request import Sequence


@dataclass(slots=True)
class Held:
    """One extent in use. If `is_retired`, its sequence has ended and its tokens are dead."""

    extent: Extent
    requested_len: int  # what was asked for, before rounding up
    is_retired: bool = False


class ExtentManager(KVManager):
    """Keeps the extents in use and the running totals of their parts.

    ::

        |<------------------------- extent ------------------------->|
        | prompt and generated | true rest  | never used |  rounding |
        |     token states     |  reserved  |  internal  |           |
        |<--------------- requested length ------------->|
    """

    attention: ClassVar[str] = "contiguous"
    preempts: ClassVar[bool] = False

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._held: dict[Sequence, Held] = {}
        self.num_taken = 0
        self._num_tokens = 0
        self._num_final = 0  # slots that hold or will hold a token of a live sequence
        self._num_rounding = 0

    @abstractmethod
    def release(self, start: int) -> None:
        """The extent at slot `start` is free again."""

    def hold(self, sequence: Sequence, start: int, size: int, requested_len: int) -> None:
        """`sequence` owns the extent of `size` slots at `start` from now on."""
        self._held[sequence] = Held(Extent(start, size), requested_len)
        self.num_taken += size
        self._num_tokens += sequence.num_tokens
        self._num_final += sequence.group.final_len
        self._num_rounding += size - requested_len

    @property
    def held_starts(self) -> set[int]:
        """First slots of the extents in use."""
        return {held.extent.start for held in self._held.values()}

    def room(self, sequence: Sequence) -> int:
        return self._held[sequence].extent.size - sequence.num_tokens

    @property
    def num_appendable(self) -> int:
        return sys.maxsize  # the extent already holds the whole reply

    def append(self, sequence: Sequence) -> list[Copy]:
        assert sequence.num_tokens < self._held[sequence].extent.size, f"{sequence} outgrew its extent"
        return []

    @property
    def grows_alike(self) -> bool:
        return self.pages is None

    def advance(self, num_sequences: int) -> None:
        self._num_tokens += num_sequences

    def fork(self, parent: Sequence, child: Sequence) -> list[Copy]:
        """Copy the parent's tokens into the extent that the child holds: extents share nothing."""
        source, destination = self._held[parent].extent, self._held[child].extent
        return [Copy(source.start, destination.start, parent.num_tokens)]

    def retire(self, sequence: Sequence) -> None:
        held = self._held[sequence]
        assert not held.is_retired, f"{sequence} ended twice"
        held.is_retired = True
        self._num_tokens -= sequence.num_tokens
        self._num_final -= sequence.group.final_len

    def free(self, sequence: Sequence) -> None:
        held = self._held[sequence]
        if not held.is_retired:
            self.retire(sequence)
        del self._held[sequence]
        self.num_taken -= held.extent.size
        self._num_rounding -= held.extent.size - held.requested_len
        self.release(held.extent.start)

    def placement(self, sequence: Sequence, layer_group: int = 0) -> Extent:
        return self._held[sequence].extent

    def usage(self, *, head_refused: bool) -> MemoryUsage:
        unheld = self.num_slots - self.num_taken
        return MemoryUsage(
            token_states=self._num_tokens,
            reserved=self._num_final - self._num_tokens,
            internal=self.num_taken - self._num_rounding - self._num_final,
            rounding=self._num_rounding,
            unusable=unheld if head_refused else 0,
            free=0 if head_refused else unheld,
        )

    def check_integrity(self) -> None:
        end = 0
        for held in sorted(self._held.values(), key=lambda held: held.extent.start):
            assert held.extent.start >= end, f"slot {held.extent.start} has two owners"
            end = held.extent.start + held.extent.size
        assert end <= self.num_slots, "an extent ends behind the pool"
        live = [sequence for sequence, held in self._held.items() if not held.is_retired]
        num_tokens = sum(sequence.num_tokens for sequence in live)
        num_final = sum(sequence.group.final_len for sequence in live)
        num_taken = sum(held.extent.size for held in self._held.values())
        assert self._num_tokens == num_tokens, "token states do not match"
        assert self._num_final == num_final, "final lengths do not match"
        assert self.num_taken == num_taken, "taken slots do not match"
        rounding = sum(held.extent.size - held.requested_len for held in self._held.values())
        assert self._num_rounding == rounding, "rounding does not match"
