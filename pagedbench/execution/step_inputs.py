"""StepInputs and StepOutputs: flat arrays from a batch to the model, and the tokens that come back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from pagedbench.ops.addresses import BlockTables, Extents

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pagedbench.memory.moves import Pool
    from pagedbench.memory.pages import PageChanges
    from pagedbench.ops.addresses import Addresses

NO_SLOT = -1
"""The slot of a padding token: its key and value are written nowhere."""


@dataclass(frozen=True, slots=True)
class MoveInputs:
    """Copies from one pool to another, or within one; all slots are read before any is written."""

    source: Pool
    destination: Pool
    runs: NDArray[np.int64]  # [num_runs, 3]: first source slot, first destination slot, number of slots


@dataclass(frozen=True, slots=True)
class SamplingInputs:
    """How the next tokens are chosen. Rows are numbered in the order of `StepInputs.sampled_tokens`.

    Several sequences may share a row: the samples of one prompt get their first tokens from its last one.
    Beam search has one entry per beam, group after group, in the present order of each group's beams.
    """

    greedy_rows: NDArray[np.int64]  # [num_greedy]
    random_rows: NDArray[np.int64]  # [num_random]
    temperatures: NDArray[np.float32]  # [num_random]
    top_ks: NDArray[np.int64]  # [num_random], 0: sample from all
    top_ps: NDArray[np.float64]  # [num_random], 1: sample from all
    uniforms: NDArray[np.float64]  # [num_random], random numbers in [0, 1)
    beam_widths: NDArray[np.int64]  # [num_groups]
    is_first_step: NDArray[np.bool_]  # [num_groups], the beams hold only the prompt
    beam_rows: NDArray[np.int64]  # [num_beams]
    beam_scores: NDArray[np.float32]  # [num_beams], cumulative log-probabilities
    with_logprobs: bool = False  # does any sequence want the log-probabilities of its tokens?


@dataclass(frozen=True, slots=True)
class GroupInputs:
    """Where an iteration's tokens lie in the layers of one group; arrays as in `StepInputs`."""

    slots: NDArray[np.int64]  # [num_tokens]
    tables: NDArray[np.int32] | NDArray[np.int64]  # [num_sequences, max_blocks] or [num_sequences, 1]
    first_positions: NDArray[np.int32] | None  # [num_sequences], see `BlockTables`; None: all are 0


@dataclass(frozen=True, slots=True)
class StepInputs:
    """One iteration, as a model needs it. It can be pickled and computed in another process.

    Decoding sequences come first, with one token each, then the prefills with all their tokens:

    ```
    sequences     0   1   2          3             4
    tokens        0   1   2      3  4  5  6      7   8
                 (  decodes  )  (       prefills       )
    ```
    A request-level batch pads each of its prefills on the left to `padded_len` tokens. A token is sampled
    from every decode and from every prefill that reaches the end of its prompt. Without prefills,
    `query_starts`, `sampled_tokens` and `sampled_sequences` are None. The builder reuses the memory for the
    next iteration.
    """

    moves: tuple[MoveInputs | PageChanges, ...]  # in this order, before any key or value is written
    num_decodes: int
    padded_len: int | None
    token_ids: NDArray[np.int64]  # [num_tokens]
    positions: NDArray[np.int64]  # [num_tokens]
    slots: NDArray[np.int64]  # [num_tokens], NO_SLOT for padding; in the first layer group
    context_lens: NDArray[np.int32]  # [num_sequences], this iteration's tokens included
    tables: NDArray[np.int32] | NDArray[np.int64]  # [num_sequences, max_blocks] or [num_sequences, 1]
    block_size: int | None  # of the block tables; None: `tables` holds the first slots of extents
    sampling: SamplingInputs
    query_starts: NDArray[np.int32] | None = None  # [num_prefills + 1], counted from the first prefill
    sampled_tokens: NDArray[np.int64] | None = None  # [num_sampled], decodes and last tokens of prefills
    sampled_sequences: NDArray[np.int64] | None = None  # [num_sampled], the sequences that they belong to
    first_positions: NDArray[np.int32] | None = None  # [num_sequences], of the tables
    more_groups: tuple[GroupInputs, ...] = ()  # of the layer groups after the first


@dataclass(frozen=True, slots=True)
class BeamOutputs:
    """One step of one group's beam search, the best beam first. See `samples.BeamStep`."""

    parents: list[int]
    tokens: list[int]
    scores: list[float]


@dataclass(frozen=True, slots=True)
class StepOutputs:
    """The next tokens in the order of `SamplingInputs`: greedy ones, then random ones, then beams."""

    tokens: list[int]
    logprobs: list[float]
    beams: list[BeamOutputs] = field(default_factory=list)
    broadcast_bytes: int = 0  # sent to each other rank


@dataclass(frozen=True, slots=True)
class InputTensors:
    """`StepInputs` on the device, as the model and its attention take them. On a CPU both share memory."""

    token_ids: Tensor  # int64 [num_tokens]
    positions: Tensor  # int64 [num_tokens]
    slots: Tensor  # int64 [num_tokens]
    context_lens: Tensor  # int32 [num_sequences]
    addresses: Addresses  # one row per sequence
    num_decodes: int
    padded_len: int | None = None
    query_starts: Tensor | None = None  # int32 [num_prefills + 1]
    sampled_tokens: Tensor | None = None  # int64 [num_sampled]
    sampled_sequences: Tensor | None = None  # int64 [num_sampled]
    more_groups: tuple[tuple[Tensor, Addresses], ...] = ()  # slots and addresses of the other layer groups

    @classmethod
    def of(cls, inputs: StepInputs, device: torch.device) -> InputTensors:
        """Copy the arrays to the device; from pinned memory this does not block the host."""

        def tensor(array: NDArray[np.int64] | NDArray[np.int32]) -> Tensor:
            return torch.from_numpy(array).to(device, non_blocking=True)

        def optional(array: NDArray[np.int64] | NDArray[np.int32] | None) -> Tensor | None:
            return None if array is None else tensor(array)

        def addresses(group: StepInputs | GroupInputs) -> Addresses:
            tables = tensor(group.tables)
            if inputs.block_size is None:
                return Extents(tables[:, 0])
            return BlockTables(tables, inputs.block_size, optional(group.first_positions))

        return cls(
            tensor(inputs.token_ids),
            tensor(inputs.positions),
            tensor(inputs.slots),
            tensor(inputs.context_lens),
            addresses(inputs),
            inputs.num_decodes,
            inputs.padded_len,
            optional(inputs.query_starts),
            optional(inputs.sampled_tokens),
            optional(inputs.sampled_sequences),
            tuple((tensor(group.slots), addresses(group)) for group in inputs.more_groups),
        )

    @classmethod
    def padding(cls, addresses: Addresses, num_rows: int, device: torch.device) -> InputTensors:
        """`num_rows` padding rows for `fill`, which write nothing and attend to nothing."""
        zeros = torch.zeros(num_rows, dtype=torch.int64, device=device)
        slots = torch.full_like(zeros, NO_SLOT)
        return cls(zeros, zeros.clone(), slots, zeros.int(), addresses, num_rows)

    def fill(self, decodes: InputTensors) -> None:
        """Copy other decodes into the first rows, in place; the rows after them become padding."""
        n = decodes.num_decodes
        self.token_ids[:n].copy_(decodes.token_ids)
        self.positions[:n].copy_(decodes.positions)
        self.slots[:n].copy_(decodes.slots)
        self.context_lens[:n].copy_(decodes.context_lens)
        self.addresses.fill(decodes.addresses)
        if n < self.num_decodes:
            self.slots[n:].fill_(NO_SLOT)
            self.context_lens[n:].zero_()
