"""ByIteration: how a memory manager follows the iterations, and how sequences grow in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.moves import Copy
    from pagedbench.request import Sequence


class ByIteration(ABC):
    """What happens in every iteration, whichever sequences run in it; most managers keep the defaults."""

    append_len: int = 1
    """Tokens of room that `append_all` gives."""

    @property
    def grows_alike(self) -> bool:
        """Does nothing but `advance` change the manager while no sequence comes, ends or needs room?"""
        return False

    def start_iteration(self, now: float) -> None:
        """An iteration is about to be scheduled, at `now` seconds of the run's clock."""
        return

    @abstractmethod
    def room(self, sequence: Sequence) -> int:
        """The number of tokens that the sequence may store before `append` is due."""

    @property
    @abstractmethod
    def num_appendable(self) -> int:
        """The number of calls of `append` that are sure to succeed now."""

    @abstractmethod
    def append(self, sequence: Sequence) -> list[Copy]:
        """Give the sequence a slot for its next token (position `num_tokens`), unless it has one.

        Returns the copies to execute before that token is written (copy-on-write).
        """

    def append_all(self, due: Items[Sequence], now: float) -> tuple[int, int, int]:
        """`append` for sequences that share their last blocks with none; the iteration begins at `now`.

        Asked only if it `grows_alike`. Returns what is then free and internal, in slots, and `num_evicted`.
        """
        raise NotImplementedError(f"{type(self).__name__} decides something in every iteration")

    @abstractmethod
    def advance(self, num_sequences: int) -> None:
        """Count one more stored token for each of `num_sequences` sequences in this iteration."""
