"""EvictionPolicy: which idle block of the prefix cache loses its content; and the default, LRU."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as Items

    from pagedbench.memory.prefix import Key


@dataclass(slots=True, eq=False)
class CachedBlock:
    """A block whose content the prefix cache keeps. Times in seconds of the run's clock.

    Attributes:
        number: of the block in its pool.
        key: stands for the tokens of the block and all before them; equal tokens have equal keys.
        start: tokens of the prompt before the block.
        num_tokens: tokens in the block.
        order: how many contents were kept before this one.
        num_uses: requests that have computed the content or found it.
        computed, last_used: when it was computed, and when a request last computed or found it.
        idle_since: when its last owner let go of it.
    """

    number: int
    key: Key = b""
    start: int = 0
    num_tokens: int = 1
    order: int = 0
    num_uses: int = 1
    computed: float = 0.0
    last_used: float = 0.0
    idle_since: float = 0.0


class EvictionPolicy(ABC):
    """Decides `--eviction`: which idle blocks to evict. Your own policy is built as `Class()`.

    A block is idle if its content is kept and no sequence owns it. The pool says which blocks become idle
    and which are used again, in batches, and asks for a number of them when no block is free.
    """

    sees_future: ClassVar[bool] = False
    """It must be told the prompts of future requests (`foresee`), which only a simulation knows."""

    @abstractmethod
    def add(self, blocks: Items[CachedBlock]) -> None:
        """These blocks are idle from now on. The last block of a prompt comes first."""

    @abstractmethod
    def remove(self, blocks: Items[CachedBlock]) -> None:
        """These idle blocks were found and have an owner again."""

    @abstractmethod
    def evict(self, number: int) -> list[CachedBlock]:
        """Choose `number` idle blocks, which lose their contents and are no longer idle."""

    def expired(self, now: float) -> list[CachedBlock]:
        """Idle blocks that lose their contents although no block is needed; asked in every iteration."""
        return []

    def foresee(self, prompts: Mapping[int, Items[Key]]) -> None:
        """The keys of all prompts of the run, by request id, in order of arrival."""
        return  # only a policy that sees the future needs them

    def admitted(self, request_id: int) -> None:
        """This request has looked up its prompt, and so is no longer in the future."""
        return


class Lru(EvictionPolicy):
    """Least recently used: the block that has been idle for longest."""

    def __init__(self) -> None:
        self._idle: OrderedDict[CachedBlock, None] = OrderedDict()

    def add(self, blocks: Items[CachedBlock]) -> None:
        self._idle.update(dict.fromkeys(blocks))

    def remove(self, blocks: Items[CachedBlock]) -> None:
        for block in blocks:
            del self._idle[block]

    def evict(self, number: int) -> list[CachedBlock]:
        return [self._idle.popitem(last=False)[0] for _ in range(number)]
