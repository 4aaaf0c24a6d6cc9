"""InputBuilder turns a batch and its placements into the arrays that a model needs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import torch

from pagedbench.execution.placement_table import PlacementTable, zeros
from pagedbench.execution.sampling_groups import SamplingGroups
from pagedbench.execution.step_inputs import NO_SLOT, GroupInputs, MoveInputs, StepInputs
from pagedbench.memory.moves import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from pagedbench.execution.step_inputs import StepOutputs
    from pagedbench.memory.manager import KVManager
    from pagedbench.memory.moves import Copy
    from pagedbench.memory.pages import PageChanges
    from pagedbench.request import Sequence, SequenceGroup
    from pagedbench.scheduling.batch import Batch, Prefill
    from pagedbench.scheduling.samples import Samples

PADDING_TOKEN = 0
"""The token that padding is computed from; the result is never read."""

MIN_CAPACITY = 16
"""Initial capacity of the arrays, in tokens."""


@dataclass(frozen=True, slots=True)
class TokenArrays:
    """Arrays with room for an iteration's tokens, rewritten in every iteration."""

    token_ids: NDArray[np.int64]  # [capacity]
    positions: NDArray[np.int64]  # [capacity]
    slots: NDArray[np.int64]  # [num_layer_groups, capacity]
    context_lens: NDArray[np.int32]  # [capacity]

    @classmethod
    def of(cls, capacity: int, num_groups: int, *, pin_memory: bool) -> TokenArrays:
        return cls(
            zeros(capacity, dtype=torch.int64, pin_memory=pin_memory),
            zeros(capacity, dtype=torch.int64, pin_memory=pin_memory),
            zeros(num_groups, capacity, dtype=torch.int64, pin_memory=pin_memory),
            zeros(capacity, dtype=torch.int32, pin_memory=pin_memory),
        )


class InputBuilder:
    """Builds `StepInputs` from a batch, and `Samples` from the outputs of a model.

    Decoding sequences keep their rows from one iteration to the next. While they stay the same, all lengths
    grow by one, and a placement is read again only if its sequence has entered a new block, moved, or
    shares blocks with others of its group. Prefills are written after the decodes.
    """

    def __init__(self, memory: KVManager, vocab_size: int, *, pin_memory: bool = False) -> None:
        """`pin_memory`: keep the arrays in pinned memory, from which a GPU copies asynchronously."""
        self._memory = memory
        self._vocab_size = vocab_size
        self._pin_memory = pin_memory
        self._arrays = TokenArrays.of(MIN_CAPACITY, len(memory.layer_groups), pin_memory=pin_memory)
        self._tables: list[
            PlacementTable
        ] = []  # one per layer group: rows of the decodes, then the prefills
        self._decodes: list[Sequence] = []  # by row, in the order of the last batch with decodes
        self._rows: dict[Sequence, int] = {}  # of the decodes
        self._lens = np.zeros(0, dtype=np.int64)  # [num_decodes], with the token of this iteration
        self._growth = np.zeros(0, dtype=np.int64)  # [num_decodes], 1, or 0 for those that have ended
        self._is_shared = np.zeros(0, dtype=np.bool_)  # [num_decodes], of a group with other sequences
        self._decode_step: int | None = None
        self._num_dead = 0
        self._decode_groups = SamplingGroups()
        self._groups = self._decode_groups  # of the present iteration
        self._prompts: WeakKeyDictionary[SequenceGroup, NDArray[np.int64]] = WeakKeyDictionary()

    def build(self, batch: Batch) -> StepInputs:
        """The arrays of an iteration, valid until the next call."""
        assert batch, "an iteration computes something"
        n, num_sequences = len(batch.decodes), len(batch.decodes) + len(batch.prefills)
        num_tokens = n + batch.num_computed_prefill_tokens
        tables, arrays = self._tables_for(batch), self._arrays_for(num_tokens)
        first_row = 0 if n else len(self._decodes)  # the rows of sequences that pause are kept
        query_starts, sampled_tokens, sampled_sequences = None, None, None
        if n:
            self._update_decodes(batch, tables)
            self._write_decodes(arrays, tables)
        self._groups = self._decode_groups
        if batch.prefills:
            query_starts = self._write_prefills(batch, arrays, tables, first_row + n)
            last_tokens: NDArray[np.int64] = np.concatenate((np.arange(n), n + query_starts[1:] - 1))
            members: list[tuple[Sequence, ...]] = [(sequence,) for sequence in batch.decodes]
            members += [prefill.sampled for prefill in batch.prefills]
            sampled_sequences = np.flatnonzero([bool(sampled) for sampled in members])
            sampled_tokens = last_tokens[sampled_sequences]
            self._groups = SamplingGroups(sampled for sampled in members if sampled)
        rows = (first_row, first_row + num_sequences)
        first, *others = (
            GroupInputs(slots[:num_tokens], table.rows(*rows), table.first_positions(*rows))
            for slots, table in zip(arrays.slots, tables, strict=True)
        )
        return StepInputs(
            moves=tuple(_moves(batch)),
            num_decodes=n,
            padded_len=batch.padded_len,
            token_ids=arrays.token_ids[:num_tokens],
            positions=arrays.positions[:num_tokens],
            slots=first.slots,
            context_lens=arrays.context_lens[:num_sequences],
            tables=first.tables,
            block_size=tables[0].block_size,
            sampling=self._groups.inputs(),
            query_starts=query_starts,
            sampled_tokens=sampled_tokens,
            sampled_sequences=sampled_sequences,
            first_positions=first.first_positions,
            more_groups=tuple(others),
        )

    def samples(self, outputs: StepOutputs) -> Samples:
        """Assign the outputs for the inputs that were built last to their sequences."""
        return self._groups.samples(outputs)

    def _tables_for(self, batch: Batch) -> list[PlacementTable]:
        if not self._tables:
            sequence = batch.decodes[0] if batch.decodes else batch.prefills[0].sequence
            placement, pin_memory = self._memory.placement(sequence), self._pin_memory
            self._tables = [
                PlacementTable(placement, pin_memory=pin_memory, layers=layers)
                for layers in self._memory.layer_groups
            ]
        return self._tables

    def _arrays_for(self, num_tokens: int) -> TokenArrays:
        num_groups, capacity = self._arrays.slots.shape
        if num_tokens > capacity:
            capacity = max(num_tokens, 2 * capacity)
            self._arrays = TokenArrays.of(capacity, num_groups, pin_memory=self._pin_memory)
        return self._arrays

    def _write_placements(self, tables: list[PlacementTable], row: int, sequence: Sequence) -> None:
        for number, table in enumerate(tables):
            table.write(row, self._memory.placement(sequence, number))

    def _update_decodes(self, batch: Batch, tables: list[PlacementTable]) -> None:
        """Update rows, lengths and placements of the decoding sequences."""
        decodes, step = batch.decodes, batch.decode_step
        is_next = step is not None and self._decode_step is not None and step == self._decode_step + 1
        self._decode_step = step
        is_new: NDArray[np.bool_] | bool = False  # [num_decodes]
        if is_next and decodes == self._decodes and batch.num_dead == self._num_dead:
            self._lens += self._growth
        else:
            is_new = self._replace_decodes(batch, tables)
        if not is_next or batch.copies or batch.swap_ins or batch.preemptions:
            stale = list(range(len(decodes)))
        else:
            is_stale = self._is_shared | is_new  # [num_decodes]
            for table in tables:
                is_stale = is_stale | table.may_change(self._lens - 1)
            stale = np.flatnonzero(is_stale).tolist()
        for row in stale:
            self._write_placements(tables, row, self._decodes[row])

    def _replace_decodes(self, batch: Batch, tables: list[PlacementTable]) -> NDArray[np.bool_]:
        """Adapt the rows to other decodes, or to fewer unended ones. Returns which had no row before."""
        decodes = list(batch.decodes)
        old_rows = np.array([self._rows.get(sequence, -1) for sequence in decodes])  # [num_decodes]
        for table in tables:
            table.arrange(old_rows)
        self._decodes = decodes
        self._num_dead = batch.num_dead
        self._rows = {sequence: row for row, sequence in enumerate(decodes)}
        self._lens = np.array([sequence.num_stored for sequence in decodes], dtype=np.int64)
        self._growth = np.array([sequence.is_growing for sequence in decodes], dtype=np.int64)
        self._is_shared = np.array([sequence.group.num_sequences > 1 for sequence in decodes])
        self._decode_groups = SamplingGroups((sequence,) for sequence in decodes)
        return old_rows < 0

    def _write_decodes(self, arrays: TokenArrays, tables: list[PlacementTable]) -> None:
        n = len(self._decodes)
        positions = arrays.positions[:n]
        np.subtract(self._lens, 1, out=positions)
        for slots, table in zip(arrays.slots, tables, strict=True):
            slots[:n] = table.slots(np.arange(n), positions)
        arrays.context_lens[:n] = self._lens
        arrays.token_ids[:n] = [sequence.output_ids[-1] for sequence in self._decodes]

    def _write_prefills(
        self, batch: Batch, arrays: TokenArrays, tables: list[PlacementTable], first_row: int
    ) -> NDArray[np.int32]:
        """Write prefills after the decodes. Returns where each begins, and the end.  # [num_prefills + 1]

        ```
        prefill 0: positions start .. stop - 1      prefill 1: ...      tokens, one prefill after another
        left-padded to 6:  . . . 0 1 2 | . 0 1 2 3 4                    a dot has no slot
        ```
        """
        prefills, padded_len, n = batch.prefills, batch.padded_len, len(batch.decodes)
        for row, prefill in enumerate(prefills, start=first_row):
            self._write_placements(tables, row, prefill.sequence)
        starts = np.array([prefill.start for prefill in prefills], dtype=np.int64)  # [num_prefills]
        stops = np.array([prefill.stop for prefill in prefills], dtype=np.int64)  # [num_prefills]
        assert padded_len is None or not starts.any(), "padded prompts are whole"
        widths = stops - starts if padded_len is None else np.full_like(stops, padded_len)
        ends = np.cumsum(widths)  # [num_prefills]
        rows = np.repeat(np.arange(len(prefills)), widths)  # [num_tokens]
        positions = np.arange(ends[-1]) - ends[rows] + stops[rows]  # [num_tokens], padding is below 0
        is_padding, positions = positions < 0, np.maximum(positions, 0)
        tokens = slice(n, n + len(positions))
        arrays.positions[tokens] = positions
        for slots, table in zip(arrays.slots, tables, strict=True):
            slots[tokens] = np.where(is_padding, NO_SLOT, table.slots(first_row + rows, positions))
        arrays.context_lens[n : n + len(prefills)] = stops
        arrays.token_ids[tokens] = PADDING_TOKEN
        for prefill, end in zip(prefills, (n + ends).tolist(), strict=True):
            arrays.token_ids[end - prefill.num_tokens : end] = self._tokens_of(prefill)
        for prefill in prefills:
            if prefill.sampled:  # the prompt is complete
                self._prompts.pop(prefill.sequence.group, None)
        return np.concatenate(([0], ends), dtype=np.int32)

    def _tokens_of(self, prefill: Prefill) -> NDArray[np.int64]:
        """The tokens at the prefill's positions: of the prompt, then of the reply.  # [num_tokens]"""
        group = prefill.sequence.group
        ids = self._prompts.get(group)
        if ids is None:
            ids = self._prompts[group] = group.request.prompt.ids(self._vocab_size)
        if prefill.stop > len(ids):  # a preempted sequence also recomputes what it had generated
            ids = np.concatenate((ids, np.array(prefill.sequence.output_ids, dtype=np.int64)))
        return ids[prefill.start : prefill.stop]


def _moves(batch: Batch) -> Iterator[MoveInputs | PageChanges]:
    """What precedes the iteration, in the order that `Batch` documents."""
    evictions = [copy for copy in batch.evictions if copy.destination_pool is not Pool.DISK]
    yield from _copies(evictions, batch.swap_outs)
    if batch.pages is not None:
        yield batch.pages
    yield from _copies(batch.swap_ins, batch.promotions, batch.copies)


def _copies(*parts: Iterable[Copy]) -> Iterator[MoveInputs]:
    for copies in parts:
        for pools, group in groupby(copies, lambda copy: (copy.source_pool, copy.destination_pool)):
            yield MoveInputs(*pools, runs_of(group))


def runs_of(copies: Iterable[Copy]) -> NDArray[np.int64]:
    """Source, destination and length of every copy; adjacent copies are merged.  # [num_runs, 3]"""
    table = np.array([(copy.source, copy.destination, copy.num_slots) for copy in copies], dtype=np.int64)
    table = table[table[:, 1].argsort()]
    ends = table[:-1, :2] + table[:-1, 2:]  # where each would continue: [num_copies - 1, 2]
    is_first = np.concatenate(([True], (table[1:, :2] != ends).any(axis=1)))  # [num_copies]
    firsts = np.flatnonzero(is_first)
    return np.column_stack((table[firsts, :2], np.add.reduceat(table[:, 2], firsts)))
