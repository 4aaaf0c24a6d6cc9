"""The rows of an iteration: prompts, new each time, and decoding sequences, kept from one to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pagedbench.execution.places import Mirrored, places_like

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray
    from torch import Tensor

    from pagedbench.execution.places import Places
    from pagedbench.memory.manager import KVManager
    from pagedbench.ops.addresses import Addresses
    from pagedbench.request import Sequence
    from pagedbench.scheduling.batch import Batch, Prefill

NO_SLOT = -1
"""Where padding is written: nowhere."""


def on_device(array: NDArray[np.int64], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The array as a tensor of `dtype` on `device`."""
    return torch.from_numpy(array).to(device=device, dtype=dtype)


class PrefillRows:
    """Sequences that compute some of their positions in this iteration, one after another.

    ```
    row 0: positions starts[0] .. stops[0] - 1     row 1: ...        tokens, flattened: row by row
    left-padded to 6:  . . . 0 1 2 | . 0 1 2 3 4                     no slot where there is a dot
    ```
    Padded rows begin at position 0. Rows are `sampled` if a token follows their last position; the others
    are parts of prompts.
    """

    def __init__(
        self, prefills: Items[Prefill], memory: KVManager, padded_len: int | None, device: torch.device
    ) -> None:
        assert padded_len is None or all(prefill.start == 0 for prefill in prefills), (
            "padded prompts are whole"
        )
        places = self._places(prefills, memory, device)
        starts = np.array([prefill.start for prefill in prefills], dtype=np.int64)  # [num_rows]
        stops = np.array([prefill.stop for prefill in prefills], dtype=np.int64)  # [num_rows]
        widths = stops - starts if padded_len is None else np.full_like(stops, padded_len)
        query_starts = np.concatenate(([0], np.cumsum(widths)))  # [num_rows + 1]
        rows = np.repeat(np.arange(len(stops)), widths)  # [num_tokens]
        positions = np.arange(query_starts[-1]) - query_starts[1:][rows] + stops[rows]  # [num_tokens]
        is_padding, positions = positions < 0, np.maximum(positions, 0)
        slots = np.where(is_padding, NO_SLOT, places.slots(rows, positions))  # [num_tokens]
        sampled = np.flatnonzero([bool(prefill.sampled) for prefill in prefills])  # [num_sampled]
        self.row_ends = query_starts[1:]  # [num_rows]; a row's last token is the one before
        self.num_tokens = len(positions)
        self.num_sampled = len(sampled)
        self.padded_len = padded_len
        self.positions = on_device(positions, torch.int64, device)
        self.slots = on_device(slots, torch.int64, device)
        self.query_starts = on_device(query_starts, torch.int32, device)
        self.lengths = on_device(stops, torch.int64, device)
        self.context_lens = self.lengths.to(torch.int32)
        self.addresses = places.addresses()
        self.last_tokens = on_device(self.row_ends[sampled] - 1, torch.int64, device)  # [num_sampled]
        index = on_device(sampled, torch.int64, device)
        self.sampled_addresses = self.addresses.pick(index)
        self.sampled_context_lens = self.context_lens.index_select(0, index)

    @staticmethod
    def _places(prefills: Items[Prefill], memory: KVManager, device: torch.device) -> Places:
        placements = [memory.placement(prefill.sequence) for prefill in prefills]
        places = places_like(placements[0], device)
        places.seat([-1] * len(placements))
        for row, placement in enumerate(placements):
            places.write(row, placement)
        return places


class DecodeRows:
    """One token of every decoding sequence, a row each.

    From one iteration to the next all lengths go up by one, and only those rows are written anew whose
    sequence has entered a block, moved, or shares blocks with others of its group.
    """

    def __init__(self, memory: KVManager, device: torch.device) -> None:
        self._memory = memory
        self._device = device
        self._places: Places | None = None
        self._decode_step: int | None = None
        self._num_dead = 0
        self._row_of: dict[Sequence, int] = {}
        self._stops = np.zeros(0, dtype=np.int64)  # [num_rows], with the token of this iteration
        self._growth = np.zeros(0, dtype=np.int64)  # [num_rows], 1, or 0 for those that have ended
        self._is_shared = np.zeros(0, dtype=np.bool_)  # [num_rows], of a group with other sequences
        self._reserve(16)
        self.sequences: list[Sequence] = []
        self.num_seatings = 0
        """How often the sequences, or which of them are alive, have changed so far."""

    def _reserve(self, num_rows: int) -> None:
        device = self._device
        self._capacity = num_rows
        self._rows = np.arange(num_rows)
        self._row_tensor = torch.arange(num_rows, device=device)
        self._token_ids = Mirrored((num_rows,), torch.int64, device)
        self._positions = Mirrored((num_rows,), torch.int64, device)
        self._slots = Mirrored((num_rows,), torch.int64, device)
        self._context_lens = Mirrored((num_rows,), torch.int32, device)

    @property
    def num_tokens(self) -> int:
        return len(self.sequences)

    @property
    def rows(self) -> Tensor:
        """Their numbers, int64 [num_rows]: something is sampled from each."""
        return self._row_tensor[: self.num_tokens]

    def update(self, batch: Batch) -> None:
        """Take in the decodes of an iteration, of which there is at least one."""
        decodes, step = batch.decodes, batch.decode_step
        is_next = step is not None and self._decode_step is not None and step == self._decode_step + 1
        self._decode_step = step
        if is_next and decodes == self.sequences and batch.num_dead == self._num_dead:
            self._stops += self._growth
            is_new = None
        else:
            is_new = self._seat(decodes, batch.num_dead)
        places = self._places
        assert places is not None, "rows have their places"
        if not is_next or batch.copies or batch.swap_ins or batch.preemptions:
            due = self._rows[: len(decodes)]
        else:
            is_due = places.is_due(self._stops) | self._is_shared
            due = np.flatnonzero(is_due if is_new is None else is_due | is_new)
        for row in due.tolist():
            places.write(row, self._memory.placement(self.sequences[row]))
        self._fill(places)

    def _seat(self, decodes: Items[Sequence], num_dead: int) -> NDArray[np.bool_]:
        """Other sequences, in another order, or fewer alive. Returns which of them had no row before."""
        if self._places is None:
            self._places = places_like(self._memory.placement(decodes[0]), self._device)
        kept = [self._row_of.get(sequence, -1) for sequence in decodes]
        self._places.seat(kept)
        self.sequences = list(decodes)
        self._num_dead = num_dead
        self._row_of = {sequence: row for row, sequence in enumerate(decodes)}
        self._stops = np.array([sequence.num_stored for sequence in decodes], dtype=np.int64)
        self._growth = np.array([sequence.is_growing for sequence in decodes], dtype=np.int64)
        self._is_shared = np.array([sequence.group.num_sequences > 1 for sequence in decodes])
        if len(decodes) > self._capacity:
            self._reserve(max(2 * self._capacity, len(decodes)))
        self.num_seatings += 1
        return np.array(kept) < 0

    def _fill(self, places: Places) -> None:
        """Write down what the iteration reads, in place."""
        n = self.num_tokens
        positions = self._positions.array[:n]
        np.subtract(self._stops, 1, out=positions)
        self._slots.array[:n] = places.slots(self._rows[:n], positions)
        self._context_lens.array[:n] = self._stops
        self._token_ids.array[:n] = [sequence.output_ids[-1] for sequence in self.sequences]
        self.token_ids = self._token_ids.tensor(n)
        self.positions = self._positions.tensor(n)
        self.slots = self._slots.tensor(n)
        self.context_lens = self._context_lens.tensor(n)
        self.addresses: Addresses = places.addresses()
