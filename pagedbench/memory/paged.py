"""Paged: block tables that grow on demand, share blocks and copy on write (paper, sections 4.2-4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.block_pool import BlockPool
from pagedbench.memory.manager import Allocation, BlockTable, Copy, KVManager, worst_case_len
from pagedbench.memory.usage import MemoryUsage

if TYPE_CHECKING:
    from pagedbench.request import Request, Sequence, SequenceGroup

WATERMARK = 0.01
"""Share of the blocks that admission leaves free, so that running sequences can grow."""


class Paged(KVManager):
    """Blocks of `block_size` tokens, taken when the last one is full.

    ::

        sequence   The cat sat on | the mat and sle | ep_ _ _ _
        table      [ 7,              2,               5 ]
        pool       0 1 [2] 3 4 [5] 6 [7] ...          any free block will do
    """

    attention: ClassVar[str] = "paged"

    def __init__(self, num_slots: int, block_size: int, max_model_len: int) -> None:
        self.block_size = block_size
        self.max_model_len = max_model_len
        self.pool = BlockPool(num_slots // block_size)
        self.num_slots = self.pool.num_blocks * block_size
        self.watermark_blocks = int(WATERMARK * self.pool.num_blocks)
        self._tables: dict[Sequence, list[int]] = {}
        self._num_tokens = 0  # distinct slots that hold a token
        self._num_logical = 0  # blocks of all tables; a shared one counts once a table
        self._waste: dict[int, int] = {}  # last blocks -> slots that their owner will never fill
        self._num_waste = 0

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _worst_case_blocks(self, request: Request) -> int:
        """What the group needs when nothing but full prompt blocks can be shared."""
        n, blocks = request.sampling.n, self._num_blocks(worst_case_len(request))
        shared = request.prompt_len // self.block_size
        return shared + n * (blocks - shared)

    def can_allocate(self, group: SequenceGroup) -> Allocation:
        most = self.pool.num_blocks - self.watermark_blocks
        if group.final_len > self.max_model_len or self._worst_case_blocks(group.request) > most:
            return Allocation.NEVER
        needed = self._num_blocks(group.sequences[0].num_stored)
        if self.pool.num_free - needed < self.watermark_blocks:
            return Allocation.LATER
        return Allocation.OK

    def allocate(self, group: SequenceGroup) -> None:
        first, *others = group.sequences
        num_stored = first.num_stored
        table = [self.pool.take() for _ in range(self._num_blocks(num_stored))]
        self._tables[first] = table
        self._num_logical += len(table)
        self._num_tokens += num_stored
        self._note_waste(first, table)
        for other in others:
            self.fork(first, other)

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
            self.pool.share(block)
        self._tables[child] = table
        self._num_logical += len(table)
        return []

    def free(self, sequence: Sequence) -> None:
        table = self._tables.pop(sequence)
        self._num_logical -= len(table)
        num_in_last = sequence.num_stored - (len(table) - 1) * self.block_size
        for block in table[:-1]:
            if self.pool.release(block):
                self._num_tokens -= self.block_size
        if self.pool.release(table[-1]):
            self._num_tokens -= num_in_last
            self._num_waste -= self._waste.pop(table[-1], 0)

    def _note_waste(self, sequence: Sequence, table: list[int]) -> None:
        """Slots of the newest block that lie behind the sequence's last token."""
        waste = len(table) * self.block_size - sequence.group.final_len
        if waste > 0:
            self._waste[table[-1]] = waste
            self._num_waste += waste

    def placement(self, sequence: Sequence) -> BlockTable:
        return BlockTable(self._tables[sequence], self.block_size)

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
            shared=(self._num_logical - self.pool.num_used) * size,
        )

    def check_integrity(self) -> None:
        owners: dict[int, int] = {}
        filled: dict[int, int] = {}  # block -> tokens in it
        waste: dict[int, int] = {}
        for sequence, table in self._tables.items():
            num_stored = sequence.num_stored
            assert len(table) == self._num_blocks(num_stored), f"{sequence} has {len(table)} blocks"
            for i, block in enumerate(table):
                owners[block] = owners.get(block, 0) + 1
                filled[block] = max(
                    filled.get(block, 0), min(num_stored - i * self.block_size, self.block_size)
                )
                unused = min((i + 1) * self.block_size - sequence.group.final_len, self.block_size)
                if unused > 0:
                    waste[block] = unused
        self.pool.check_integrity(owners)
        assert self._num_tokens == sum(filled.values()), "token states do not match the tables"
        assert self._num_logical == sum(map(len, self._tables.values())), "logical blocks do not match"
        assert self._waste == waste, "slack behind the last tokens does not match"
        assert self._num_waste == sum(waste.values()), "the sum of the slack does not match"
