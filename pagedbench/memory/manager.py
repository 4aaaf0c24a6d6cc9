"""KVManager, the interface of every memory manager."""

from __future__ import annotations

from abc import abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.iterations import ByIteration
from pagedbench.memory.layer_group import ALL_LAYERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Sequence as Items
    from typing import Self

    from pagedbench.memory.cache_observer import CacheObserver
    from pagedbench.memory.cache_times import CacheTimes
    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.moves import Copy
    from pagedbench.memory.placement import Placement
    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.memory.tiers import Tiers
    from pagedbench.memory.usage import MemoryUsage
    from pagedbench.memory.virtual.page_pool import PagePool
    from pagedbench.prompt import Prompt
    from pagedbench.request import Request, Sequence, SequenceGroup


class Allocation(Enum):
    """The answer to "is there room for this group?"."""

    OK = "ok"
    LATER = "later"  # not now, but once other groups have left
    NEVER = "never"  # not even alone


class KVManager(ByIteration):
    """Hands out the slots of a KV pool. It knows lengths and addresses, but no tensors and no time.

    The scheduler calls `append` only when it is due: `room` is the number of tokens that a sequence may
    store before that. Once all due sequences have room, `advance` gives the number of sequences that store
    one more token in this iteration. So `usage` is O(1) in the built-in managers. Like `check_integrity`,
    it is to be called after `advance`.

    Your own manager (`--memory module:Class`, `--system name=module:Class`) is built as
    `Class(num_slots, block_size, max_model_len)`, unless it overrides `build`. Its class attributes say
    what it can do, and options are accepted or refused accordingly.
    """

    attention: ClassVar[str]
    """The kind of placements that attention reads: "paged" (BlockTable) or "contiguous" (Extent)."""

    preempts: ClassVar[bool] = True
    """Sequences take slots as they grow, so groups are preempted when no slot is free (--preemption)."""

    swaps: ClassVar[bool] = False
    """Preempted groups can move to a host pool (--swap-space)."""

    caches_prefixes: ClassVar[bool] = False
    """KV blocks of shared prompt prefixes are reused (--prefix-caching)."""

    has_tiers: ClassVar[bool] = False
    """Evicted blocks of prefixes go to the host and to a disk (--host-cache, --disk-cache). A scheduler
    asks `is_ready` before it admits the head of the queue, and puts `take_moves` into its batch."""

    has_watermark: ClassVar[bool] = False
    """Admission leaves a share of the blocks free, so that running sequences can grow (--watermark)."""

    takes_chunks: ClassVar[bool] = False
    """A prompt can take its slots chunk by chunk (--admission prompt-first-chunk)."""

    has_equal_extents: ClassVar[bool] = False
    """All requests of a batch have extents of the same size (--batch-size)."""

    commits_pages: ClassVar[bool] = False
    """Virtual slots get memory page by page (--page-size). A scheduler puts the changes of `pages` into its
    batch."""

    batch_size: int
    width: int
    extent_len: int
    """Requests of a batch, sequences of each request, and tokens of an extent, with equal extents."""

    layer_groups: tuple[LayerGroup, ...] = (ALL_LAYERS,)
    """Layers that keep the same tokens. A slot is room for one token in the layers of one group."""

    num_slots: int
    """Capacity of the pool in tokens, of all layer groups together."""

    num_host_slots: int = 0
    """Capacity of the host pool, for groups that are swapped out, in tokens."""

    tiers: Tiers | None = None
    """The tiers that evicted blocks of prefixes go to; None: their contents are lost."""

    pages: PagePool | None = None
    """The memory behind virtual slots; None: every slot has its own."""

    num_lookahead: int = 0
    """Slots that a decoding sequence needs beyond that of its next token: an executor that returns several
    tokens per step (speculative decoding) stores all of them but the last."""

    num_prefix_queried: int = 0
    num_prefix_hits: int = 0
    """Prompt tokens looked up in the prefix cache so far, and those found, which need not be computed."""

    cache_times: CacheTimes | None = None
    """How long contents of the prefix cache were kept; None without a cache."""

    @classmethod
    def build(cls, pool: PoolSpec) -> Self:
        """An empty manager of the pool."""
        construct: Callable[..., Self] = cls  # not every manager has this constructor
        return construct(pool.num_slots, pool.block_size, pool.max_model_len)

    def num_reclaimable(self, group: SequenceGroup) -> int:
        """Slots that become free if the group loses its memory: those that no other group uses."""
        return sum(sequence.num_tokens for sequence in group.sequences)

    def num_held_slots(self, group: SequenceGroup) -> int:
        """Slots that hold the group's tokens; what its sequences share counts once."""
        return sum(sequence.num_tokens for sequence in group.sequences)

    def foresee(self, requests: Iterable[Request]) -> None:
        """All requests of the run in order of arrival, for eviction policies that see the future."""
        return

    @property
    def num_evicted(self) -> int:
        """Blocks of the prefix cache that have lost their contents so far."""
        return 0

    def register_prefix(self, prefix: Prompt) -> None:
        """Keep a prefix that prompts share for the whole run, if it can be shared (paper, section 4.4)."""
        return  # most managers share nothing

    def observe_cache(self, observer: CacheObserver) -> None:
        """Tell the observer what the cache of prefixes holds now, and what it keeps and evicts later."""
        return  # most managers cache nothing

    def is_ready(self, group: SequenceGroup) -> bool:
        """Can the head of the queue use now what it finds in a cache, or is it still being read?"""
        return True

    def take_moves(self) -> tuple[list[Copy], list[Copy]]:
        """The moves of this iteration from the device to a tier, and from a tier to the device."""
        return [], []

    @abstractmethod
    def can_allocate(self, group: SequenceGroup) -> Allocation:
        """Is there room now for all tokens that the group needs slots for (`Sequence.num_tokens`)?

        NEVER exactly if the group could not finish alone in an empty pool; on an empty pool the
        answer is never LATER.
        """

    @abstractmethod
    def allocate(self, group: SequenceGroup) -> list[int]:
        """Take slots for `num_tokens` tokens of each of the sequences of the group. Called only after OK.

        Returns the first position to be computed of each sequence. Earlier positions are in the cache, or
        are computed for another sequence of the group in the same iteration. If it is `num_tokens`, no
        position is left, and the sequence samples from the first sequence's prompt.
        """

    def can_begin(self, group: SequenceGroup, num_tokens: int) -> Allocation:
        """`can_allocate` for the first chunk of the group's prompt, of `num_tokens` tokens."""
        return self.can_allocate(group)

    def begin(self, group: SequenceGroup, num_tokens: int) -> list[int]:
        """`allocate` for the first chunk of the group's prompt, of `num_tokens` tokens."""
        return self.allocate(group)

    def can_continue(self, group: SequenceGroup, num_tokens: int) -> bool:
        """Is there room for the next chunk of the group's prompt, of `num_tokens` tokens at most?"""
        return True  # most managers allocate the whole prompt at once

    def continue_prompt(self, group: SequenceGroup, num_tokens: int) -> None:
        """Take slots for the next chunk of the group's prompt, of `num_tokens` tokens at most."""
        return

    def can_finish(self, groups: Items[SequenceGroup]) -> bool:
        """Would all these groups finish together, whatever their lengths, without any preemption?"""
        return sum(group.num_sequences * group.worst_case_len for group in groups) <= self.num_slots

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

    def _lookahead(self, sequence: Sequence) -> int:
        """Beams get one token per step, all others up to `num_lookahead` more."""
        return self.num_lookahead if sequence.group.request.sampling.beam_width is None else 0

    def can_append(self, group: SequenceGroup) -> bool:
        """Is there a free block for each sequence of the group, needed or not (the authors' rule)?"""
        return self.num_appendable >= group.num_sequences

    @abstractmethod
    def fork(self, parent: Sequence, child: Sequence) -> list[Copy]:
        """Replace the tokens of `child` by those of its parent.

        Returns the copies to execute before the next iteration writes. A manager that can swap shares slots
        and returns none, because the next iteration's swap-outs come before its copies.
        """

    def retire(self, sequence: Sequence) -> None:
        """The sequence has ended, but keeps its slots until `free` (request-level batches)."""
        raise NotImplementedError(f"{type(self).__name__} frees sequences as soon as they end")

    @abstractmethod
    def free(self, sequence: Sequence) -> None:
        """Release the slots of the sequence, on the device or, if it is swapped out, on the host."""

    def finish(self, sequence: Sequence) -> None:
        """Release the slots of a finished sequence. A prefix cache may keep their content."""
        self.free(sequence)

    def can_swap_out(self, group: SequenceGroup) -> bool:
        """Does the host pool have room for the group?"""
        return False

    def swap_out(self, group: SequenceGroup) -> list[Copy]:
        """Move the group to the host. Returns the moves from device slots to host slots."""
        raise NotImplementedError(f"{type(self).__name__} never preempts")

    def can_swap_in(self, group: SequenceGroup) -> bool:
        """Is there room on the device for a swapped group and one more token of each sequence?

        On an unused pool, room for the group is enough.
        """
        raise NotImplementedError(f"{type(self).__name__} never preempts")

    def swap_in(self, group: SequenceGroup) -> list[Copy]:
        """Move the group back. Returns the moves from host slots to device slots."""
        raise NotImplementedError(f"{type(self).__name__} never preempts")

    @property
    def num_owned(self) -> int:
        """Slots that sequences own."""
        usage = self.usage(head_refused=False)
        return usage.capacity - usage.free

    @abstractmethod
    def placement(self, sequence: Sequence, layer_group: int = 0) -> Placement:
        """Where the sequence's tokens are in the layers of `layer_groups[layer_group]`.

        It covers the tokens that this iteration computes and all that they attend to: blocks before a
        window are freed in a later iteration. It is valid until the sequence grows, forks or is freed.

        The list of a block table grows at its end, and its last block may be replaced (copy-on-write).
        Any other change makes a new list, so a caller that kept the list has to read only its end again.
        """

    @abstractmethod
    def usage(self, *, head_refused: bool) -> MemoryUsage:
        """What the slots are used for in this iteration, after `schedule`.

        Args:
            head_refused: `can_allocate` answered LATER to the head of the queue in this iteration.
        """

    @abstractmethod
    def check_integrity(self) -> None:
        """Recompute every running total from the tables.

        Raises:
            AssertionError: a total or a slot's number of owners is wrong.
        """
