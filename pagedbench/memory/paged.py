"""Paged: block tables that grow on demand, share, copy on write and swap (paper, sections 4.2-4.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.block_pool import BlockPool
from pagedbench.memory.manager import Allocation, BlockTable, Copy, KVManager, worst_case_len
from pagedbench.memory.prefix import PrefixIndex, block_hashes
from pagedbench.memory.swap import HostTables
from pagedbench.memory.usage import MemoryUsage

if TYPE_CHECKING:
    from pagedbench.request import Prompt, Request, Sequence, SequenceGroup

WATERMARK = 0.01
"""Share of the blocks that admission leaves free, so that running sequences can grow."""


class Paged(KVManager):
    """Blocks of `block_size` tokens, taken when the last one is full.

    ::

        sequence   The cat sat on | the mat and sle | ep_ _ _ _
        table      [ 7,              2,               5 ]
        pool       0 1 [2] 3 4 [5] 6 [7] ...          any free block will do

    Sequences of a group share the blocks of their prompt; whoever writes into a shared block gets a
    copy of its own first. Registered prefixes are pinned; with `prefix_caching` the full blocks of every
    prompt are found again by content for as long as nobody needs their room.
    """

    attention: ClassVar[str] = "paged"

    def __init__(
        self,
        num_slots: int,
        block_size: int,
        max_model_len: int,
        *,
        host_slots: int | None = None,
        prefix_caching: bool = False,
    ) -> None:
        """`host_slots`: tokens in the host pool for swapping, as many as on the device if None."""
        self.block_size = block_size
        self.max_model_len = max_model_len
        self.prefix_caching = prefix_caching
        self.index = PrefixIndex(block_size)
        self.pool = BlockPool(num_slots // block_size, self.index.forget)
        self.num_slots = self.pool.num_blocks * block_size
        host_blocks = self.pool.num_blocks if host_slots is None else host_slots // block_size
        self.host = HostTables(host_blocks)
        self.num_host_slots = host_blocks * block_size
        self.watermark_blocks = int(WATERMARK * self.pool.num_blocks)
        self._tables: dict[Sequence, list[int]] = {}
        self._num_tokens = 0  # distinct slots that hold a token in use
        self._num_logical = 0  # blocks of all tables; a shared one counts once a table
        self._num_idle_pins = 0  # pinned blocks that no table holds
        self._waste: dict[int, int] = {}  # last blocks -> slots that their owner will never fill
        self._num_waste = 0

    # Blocks and their owners

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _share(self, block: int) -> None:
        if block in self.index.pinned and self.pool.num_owners(block) == 1:
            self._num_idle_pins -= 1
        if self.pool.share(block):
            self._num_tokens += self.block_size

    def _release(self, block: int, num_tokens: int) -> None:
        """One owner less for a block that holds `num_tokens` tokens."""
        if self.pool.release(block):
            self._num_tokens -= num_tokens
            self._num_waste -= self._waste.pop(block, 0)
        elif block in self.index.pinned and self.pool.num_owners(block) == 1:
            self._num_idle_pins += 1

    def _note_waste(self, sequence: Sequence, table: list[int]) -> None:
        """Slots of the newest block that lie behind the sequence's last token."""
        waste = len(table) * self.block_size - sequence.group.final_len
        if waste > 0:
            self._waste[table[-1]] = waste
            self._num_waste += waste

    # Admission

    def can_allocate(self, group: SequenceGroup) -> Allocation:
        found = self._find(group)
        num_foreign_pins = len(self.index.pinned) - len(self.index.pinned.intersection(found))
        most = self.pool.num_blocks - self.watermark_blocks - num_foreign_pins
        if group.final_len > self.max_model_len or self._worst_case_blocks(group.request) > most:
            self.index.drop_hashes(group)
            return Allocation.NEVER
        num_revived = sum(map(self.pool.is_idle, found))
        num_taken = self._num_needed(group) - len(found) + num_revived
        if self.pool.num_free - num_taken < self.watermark_blocks:
            return Allocation.LATER
        return Allocation.OK

    def _find(self, group: SequenceGroup) -> list[int]:
        return self.index.find(group) if self.prefix_caching or self.index.pinned else []

    def _worst_case_blocks(self, request: Request) -> int:
        """What the group needs when nothing but full prompt blocks can be shared."""
        width, blocks = request.sampling.width, self._num_blocks(worst_case_len(request))
        shared = min(request.prompt_len // self.block_size, blocks)
        return shared + width * (blocks - shared)

    def _num_common(self, group: SequenceGroup) -> int:
        """Blocks that all sequences begin with: all of a fresh prompt; its full ones if recomputed."""
        prompt_len = group.request.prompt_len
        is_fresh = group.sequences[0].num_stored == prompt_len
        return self._num_blocks(prompt_len) if is_fresh else prompt_len // self.block_size

    def _num_needed(self, group: SequenceGroup) -> int:
        blocks, common = self._num_blocks(group.sequences[0].num_stored), self._num_common(group)
        return common + group.num_sequences * (blocks - common)

    def allocate(self, group: SequenceGroup) -> list[int]:
        """The first sequence gets the prompt's blocks; the others share those that they have in common."""
        num_stored, num_common = group.sequences[0].num_stored, self._num_common(group)
        common_len = min(num_common * self.block_size, num_stored)
        found = self._find(group)
        for block in found:
            self._share(block)
        common = found + [self.pool.take() for _ in range(num_common - len(found))]
        self._num_tokens += common_len - len(found) * self.block_size
        num_cached = self.index.use(found)
        if self.prefix_caching or self.index.pinned:
            self.num_prefix_queried += num_stored
            self.num_prefix_hits += num_cached
        if self.prefix_caching:
            for block in self.index.insert_prompt(group, common):
                self.pool.keep(block)
        self.index.drop_hashes(group)
        for i, sequence in enumerate(group.sequences):
            for block in common if i else ():
                self._share(block)
            self._tables[sequence] = list(common)
            self._num_logical += len(common)
            self._take_tail(sequence)
        if common_len == num_stored:
            self._note_waste(group.sequences[0], common)
        return [num_cached, *(common_len for _ in group.sequences[1:])]

    def _take_tail(self, sequence: Sequence) -> None:
        """Blocks of the sequence's own, behind those that the group has in common."""
        table, num_stored = self._tables[sequence], sequence.num_stored
        num_new = self._num_blocks(num_stored) - len(table)
        if num_new > 0:
            self._num_tokens += num_stored - len(table) * self.block_size
            self._num_logical += num_new
            table += [self.pool.take() for _ in range(num_new)]
            self._note_waste(sequence, table)

    def prefill_len(self, group: SequenceGroup) -> int:
        num_stored = group.sequences[0].num_stored
        common_len = min(self._num_common(group) * self.block_size, num_stored)
        num_tails = group.num_sequences - 1
        return num_stored - self._num_found_computed(group) + num_tails * (num_stored - common_len)

    def _num_found_computed(self, group: SequenceGroup) -> int:
        return self.index.num_computed(self._find(group)) * self.block_size

    def register_prefix(self, prefix: Prompt) -> None:
        """Pin blocks for the full blocks of a prefix; the first request that has it computes them."""
        for digest in block_hashes(prefix, self.block_size):
            block = self.pool.take()
            if self.index.insert(digest, block):
                self.index.pinned.add(block)
                self.index.uncomputed.add(block)
                self._num_idle_pins += 1
                self._num_tokens += self.block_size
            else:
                self.pool.release(block)

    # Growth

    def room(self, sequence: Sequence) -> int:
        table = self._tables[sequence]
        if self.pool.num_owners(table[-1]) > 1:
            return 0
        return len(table) * self.block_size - sequence.num_stored

    @property
    def num_appendable(self) -> int:
        return self.pool.num_free

    def append(self, sequence: Sequence) -> list[Copy]:
        table = self._tables[sequence]
        if len(table) * self.block_size == sequence.num_stored:
            table.append(self.pool.take())
            self._num_logical += 1
            self._note_waste(sequence, table)
            return []
        if self.pool.num_owners(table[-1]) > 1:
            return self._copy_on_write(sequence, table)
        return []

    def _copy_on_write(self, sequence: Sequence, table: list[int]) -> list[Copy]:
        """Others share the last block: write into a copy of it."""
        shared, size = table[-1], self.block_size
        self.pool.release(shared)
        table[-1] = self.pool.take()
        num_copied = sequence.num_stored % size
        self._num_tokens += num_copied
        self._note_waste(sequence, table)
        return [Copy(shared * size, table[-1] * size, num_copied)]

    def advance(self, num_sequences: int) -> None:
        self._num_tokens += num_sequences

    def fork(self, parent: Sequence, child: Sequence) -> list[Copy]:
        table = list(self._tables[parent])
        for block in table:
            self._share(block)
        if child in self._tables:
            self.free(child)
        self._tables[child] = table
        self._num_logical += len(table)
        return []

    def free(self, sequence: Sequence) -> None:
        table = self._tables.pop(sequence)
        self._num_logical -= len(table)
        self._release(table[-1], sequence.num_stored - (len(table) - 1) * self.block_size)
        for block in reversed(table[:-1]):  # a prefix without its beginning is never found again
            self._release(block, self.block_size)

    # Swapping

    def can_swap_out(self, group: SequenceGroup) -> bool:
        blocks = {block for sequence in group.sequences for block in self._tables[sequence]}
        return len(blocks - self.index.pinned) <= self.host.pool.num_free

    def swap_out(self, group: SequenceGroup) -> list[Copy]:
        size = self.block_size
        moved: dict[int, int] = {}
        moves = []
        for sequence in group.sequences:
            for block in self.host.add(sequence, self._tables[sequence], moved, self.index.pinned):
                moves.append(Copy(block * size, moved[block] * size, size))
        for sequence in group.sequences:
            self.free(sequence)
        return moves

    def can_swap_in(self, group: SequenceGroup) -> bool:
        needed = self._num_swap_in_blocks(group)
        if not self._tables:
            return needed <= self.pool.num_free
        return self.pool.num_free - needed - group.num_sequences >= self.watermark_blocks

    def _num_swap_in_blocks(self, group: SequenceGroup) -> int:
        """Distinct blocks in the host pool; a partial last block counts for each of its owners."""
        tables = [self.host.entries(sequence) for sequence in group.sequences]
        distinct = len({entry for table in tables for entry in table if entry >= 0})
        if group.sequences[0].num_stored % self.block_size == 0:
            return distinct
        last = [table[-1] for table in tables]
        return distinct + len(last) - len(set(last))

    def swap_in(self, group: SequenceGroup) -> list[Copy]:
        """Shared blocks come back once, but a partial last block once for each who writes next."""
        size = self.block_size
        moved: dict[int, int] = {}
        moves = []
        for sequence in group.sequences:
            table: list[int] = []
            for i, entry in enumerate(self.host.entries(sequence)):
                num_tokens = min(sequence.num_stored - i * size, size)
                if entry < 0 or (num_tokens == size and entry in moved):
                    table.append(~entry if entry < 0 else moved[entry])
                    self._share(table[-1])
                    continue
                table.append(self.pool.take())
                moved[entry] = table[-1]
                moves.append(Copy(entry * size, table[-1] * size, size))
                self._num_tokens += num_tokens
                self._note_waste(sequence, table)
            self._tables[sequence] = table
            self._num_logical += len(table)
            self.host.remove(sequence)
        return moves

    # What there is

    def placement(self, sequence: Sequence) -> BlockTable:
        return BlockTable(self._tables[sequence], self.block_size)

    @property
    def num_owned(self) -> int:
        return (self.pool.num_used - self._num_idle_pins) * self.block_size

    def usage(self, *, head_refused: bool) -> MemoryUsage:
        size = self.block_size
        taken = self.pool.num_used * size
        return MemoryUsage(
            token_states=self._num_tokens,
            reserved=taken - self._num_tokens - self._num_waste,
            internal=self._num_waste,
            rounding=0,
            unusable=0,  # every free block serves anybody
            free=self.num_slots - taken,
            shared=self._num_logical * size - self.num_owned,
        )

    def check_integrity(self) -> None:
        size = self.block_size
        owners = dict.fromkeys(self.index.pinned, 1)
        filled = dict.fromkeys(self.index.pinned, size)  # block -> tokens in it
        waste: dict[int, int] = {}
        for sequence, table in self._tables.items():
            num_stored = sequence.num_stored
            assert len(table) == self._num_blocks(num_stored), f"{sequence} has {len(table)} blocks"
            for i, block in enumerate(table):
                owners[block] = owners.get(block, 0) + 1
                filled[block] = max(filled.get(block, 0), min(num_stored - i * size, size))
                unused = min((i + 1) * size - sequence.group.final_len, size)
                if unused > 0:
                    waste[block] = unused
        self.pool.check_integrity(owners)
        self.host.check_integrity()
        self.index.check_integrity()
        idle_pins = sum(owners[block] == 1 for block in self.index.pinned)
        assert self._num_idle_pins == idle_pins, "pinned blocks without a user do not match"
        assert self._num_tokens == sum(filled.values()), "token states do not match the tables"
        assert self._num_logical == sum(map(len, self._tables.values())), "logical blocks do not match"
        assert self._waste == waste, "slack behind the last tokens does not match"
        assert self._num_waste == sum(waste.values()), "the sum of the slack does not match"
