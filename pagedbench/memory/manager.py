"""KVManager, the interface of every memory manager, and what it answers with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from pagedbench.memory.layer_group import ALL_LAYERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.usage import MemoryUsage
    from pagedbench.prompt import Prompt
    from pagedbench.request import Sequence, SequenceGroup


class Allocation(Enum):
    """The answer to "is there room for this group?"."""

    OK = "ok"
    LATER = "later"  # not now; once others have left there will be
    NEVER = "never"  # not even alone


@dataclass(frozen=True, slots=True)
class BlockTable:
    """A sequence's blocks in one layer group, in order of position.

    Without a window, token i lies in block i // block_size. With one, blocks between the sinks and the
    window have been freed, and the table has no entries for them::

        block_size 4, sinks 2, 22 tokens, window 6      num_sink_blocks 1, first_position 16
        blocks       7          3           9
        positions  0 .. 3   16 .. 19   20 .. 21

    Attributes:
        first_position: of the first block behind the sinks' that is still there.
        num_sink_blocks: blocks at the beginning of the sequence that are never freed.
    """

    blocks: list[int]
    block_size: int
    first_position: int = 0
    num_sink_blocks: int = 0

    def slots(self, start: int, stop: int) -> list[int]:
        """The slots of positions start to stop - 1, which are all still there."""
        return [self._slot(position) for position in range(start, stop)]

    def _slot(self, position: int) -> int:
        number, offset = divmod(position, self.block_size)
        if number >= self.num_sink_blocks:
            number -= max(self.first_position // self.block_size - self.num_sink_blocks, 0)
        return self.blocks[number] * self.block_size + offset


@dataclass(frozen=True, slots=True)
class Extent:
    """A sequence's one contiguous range of slots; token i lies at `start` + i."""

    start: int
    size: int

    def slots(self, start: int, stop: int) -> list[int]:
        """The slots of positions start to stop - 1."""
        return list(range(self.start + start, self.start + stop))


Placement: TypeAlias = BlockTable | Extent


class Pool(Enum):
    """Memory that holds keys and values, with slots of its own."""

    DEVICE = "device"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy `num_slots` tokens' keys and values, in every layer, from slot `source` to `destination`."""

    source: int
    destination: int
    num_slots: int
    source_pool: Pool = Pool.DEVICE
    destination_pool: Pool = Pool.DEVICE


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """What a manager is built for. Lengths in tokens.

    Attributes:
        host_slots: capacity of the host's pool, for managers that swap; None: as large as the device's.
        prefix_caching: find beginnings of prompts again, for managers that cache prefixes.
        batch_size: requests of a closed batch, for managers with equal extents.
    """

    num_slots: int
    block_size: int
    max_model_len: int
    host_slots: int | None = None
    prefix_caching: bool = False
    batch_size: int = 1


class KVManager(ABC):
    """Hands out the slots of a KV pool. Knows lengths and addresses, never tensors or time.

    Growth is asked for only when it is due: `room` says how many more tokens a sequence may store
    before `append` must be called for it. Once all that are due have room, `advance` says how many
    sequences store one more token in this iteration. `usage` is therefore O(1) in the built-in
    managers; like `check_integrity` it is meant for the time after `advance`.

    A manager of one's own (`--memory module:Class`, `--system name=module:Class`) is built as
    `Class(num_slots, block_size, max_model_len)`, unless it overrides `build`. What it can do it says in
    the class attributes below, by which options are accepted or refused.
    """

    attention: ClassVar[str]
    """How attention finds a sequence's tokens: "paged" (BlockTable) or "contiguous" (Extent)."""

    preempts: ClassVar[bool] = True
    """Sequences take slots as they grow, and some are preempted when there are none (--preemption)."""

    swaps: ClassVar[bool] = False
    """Preempted groups can move to a pool on the host (--swap-space)."""

    caches_prefixes: ClassVar[bool] = False
    """Beginnings of prompts are found again by their content (--prefix-caching)."""

    has_equal_extents: ClassVar[bool] = False
    """Every request of a closed batch has an extent of the same size (--batch-size)."""

    batch_size: int
    width: int
    extent_len: int
    """With equal extents: requests of a batch, sequences of each request, and tokens of an extent."""

    layer_groups: tuple[LayerGroup, ...] = (ALL_LAYERS,)
    """Layers that keep the same tokens. A slot is room for one token in the layers of one group."""

    num_slots: int
    """Capacity of the pool in tokens, of all layer groups together."""

    num_host_slots: int = 0
    """Capacity of the host's pool, for groups that are swapped out, in tokens."""

    num_lookahead: int = 0
    """Slots that a decoding sequence needs beside the one of its next token: an executor that returns
    several tokens a step (speculative decoding) stores all of them but the last."""

    num_prefix_queried: int = 0
    """Prompt tokens that were looked up in a cache of prefixes so far."""

    num_prefix_hits: int = 0
    """Those of them that were there, and need not be computed."""

    @classmethod
    def build(cls, pool: PoolSpec) -> Self:
        """An empty manager of the pool."""
        construct: Callable[..., Self] = cls  # managers share no constructor, but a way to call it
        return construct(pool.num_slots, pool.block_size, pool.max_model_len)

    def register_prefix(self, prefix: Prompt) -> None:
        """Keep a beginning that prompts share for the whole run, where it can be shared (paper, 4.4)."""
        return  # most managers share nothing

    @abstractmethod
    def can_allocate(self, group: SequenceGroup) -> Allocation:
        """Is there room now for all tokens that the group needs slots for (`Sequence.num_tokens`)?

        NEVER exactly if the group could not finish alone in an empty pool; on an empty pool the
        answer is never LATER.
        """

    @abstractmethod
    def allocate(self, group: SequenceGroup) -> list[int]:
        """Take the slots for `num_tokens` tokens of each of the group's sequences. Asked only after OK.

        Returns for each sequence the first position to be computed; those before it are in the cache,
        or are computed for the first sequence of the group. `num_tokens` means that nothing is left to
        compute, and the sequence samples from the first one's prompt.
        """

    def prefill_len(self, group: SequenceGroup) -> int:
        """Tokens that the group's prefills would compute if it were admitted now."""
        return group.num_sequences * group.sequences[0].num_tokens

    def mark_computed(self, sequence: Sequence, num_computed: int) -> None:
        """This iteration computes the sequence's prompt up to position `num_computed`.

        A cache of prefixes may give these tokens to other sequences from now on, also to those that are
        admitted later in the same iteration: in every layer, keys and values are written before any
        attention reads them.
        """
        return  # most managers cache nothing

    @abstractmethod
    def room(self, sequence: Sequence) -> int:
        """How many more tokens the sequence may store before `append` is due."""

    @property
    @abstractmethod
    def num_appendable(self) -> int:
        """How many calls of `append` are sure to succeed now."""

    def can_append(self, group: SequenceGroup) -> bool:
        """Can every sequence of the group store one more token, whether it needs a block or not?

        The rule of the authors' code: at least one free block for each sequence.
        """
        return self.num_appendable >= group.num_sequences

    @abstractmethod
    def append(self, sequence: Sequence) -> list[Copy]:
        """Give the sequence a slot for its next token (position `num_tokens`), if it has none.

        Returns the copies to execute before that token is written (copy-on-write).
        """

    @abstractmethod
    def advance(self, num_sequences: int) -> None:
        """In this iteration `num_sequences` sequences store one more token each."""

    @abstractmethod
    def fork(self, parent: Sequence, child: Sequence) -> list[Copy]:
        """Let `child` continue from all of the parent's tokens, whatever it held itself so far.

        Returns the copies to execute before the next iteration writes. A manager that swaps shares slots
        instead and returns none, because swap-outs of the next iteration come before its copies.
        """

    def retire(self, sequence: Sequence) -> None:
        """The sequence has ended, but its slots stay taken until `free` (request-level batches)."""
        raise NotImplementedError(f"{type(self).__name__} frees sequences as soon as they end")

    @abstractmethod
    def free(self, sequence: Sequence) -> None:
        """Give back everything the sequence holds, on the device or, swapped out, on the host."""

    def finish(self, sequence: Sequence) -> None:
        """The sequence has all its tokens: give back what it holds. A cache may remember its content."""
        self.free(sequence)

    def can_swap_out(self, group: SequenceGroup) -> bool:
        """Does the host have room for everything the group holds?"""
        return False

    def swap_out(self, group: SequenceGroup) -> list[Copy]:
        """Move the group to the host. Returns the moves: slots of the device to slots of the host."""
        raise NotImplementedError(f"{type(self).__name__} never preempts")

    def can_swap_in(self, group: SequenceGroup) -> bool:
        """Is there room on the device for a swapped group, and for one more token of each sequence?

        On a pool that nobody uses, whenever the group fits.
        """
        raise NotImplementedError(f"{type(self).__name__} never preempts")

    def swap_in(self, group: SequenceGroup) -> list[Copy]:
        """Move the group back. Returns the moves: slots of the host to slots of the device."""
        raise NotImplementedError(f"{type(self).__name__} never preempts")

    @property
    def num_owned(self) -> int:
        """Slots that belong to some sequence."""
        usage = self.usage(head_refused=False)
        return usage.capacity - usage.free

    @abstractmethod
    def placement(self, sequence: Sequence, layer_group: int = 0) -> Placement:
        """Where the sequence's tokens are in the layers of `layer_groups[layer_group]`.

        It covers the tokens that this iteration computes and all that they look back on: blocks before a
        window are freed in a later iteration. It is valid until the sequence grows, forks or is freed.

        The list of a block table grows at its end, and its last block may be replaced (copy-on-write).
        Any other change is made in a new list, so a reader of an earlier list reads only its end again.
        """

    @abstractmethod
    def usage(self, *, head_refused: bool) -> MemoryUsage:
        """What the slots are used for, once this iteration is scheduled.

        Args:
            head_refused: `can_allocate` answered LATER to the head of the queue in this iteration.
        """

    @abstractmethod
    def check_integrity(self) -> None:
        """Recompute every running total from the tables.

        Raises:
            AssertionError: a total is wrong, or a slot has an owner too many or too few.
        """


def worst_case_len(group: SequenceGroup) -> int:
    """The most tokens one sequence ever stores: its last token is sampled, but never stored."""
    return group.max_len - 1
