"""ModelRunner: one iteration on a real model. Copies first, then one forward pass, then a token a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pagedbench.execution.attention import BatchAttention, Rows, addresses_of, on_device
from pagedbench.execution.executor import Samples
from pagedbench.execution.sampler import greedy

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray
    from torch import Tensor

    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.memory.manager import Copy, KVManager
    from pagedbench.models.layers import Decoder
    from pagedbench.ops.select import Ops
    from pagedbench.request import Sequence
    from pagedbench.scheduling.batch import Batch, Prefill

PADDING_TOKEN = 0
"""What padding is computed from; nobody reads what comes out."""


@dataclass(frozen=True, slots=True)
class Part:
    """The prefills, or the decodes, of one iteration.

    Attributes:
        rows: positions and slots of the tokens.
        token_ids: [num_tokens]
        sequences: those that get a token.
        sampled: [len(sequences)]; the token that each of them is sampled from, counted in this part.
    """

    rows: Rows
    token_ids: NDArray[np.int64]
    sequences: list[Sequence]
    sampled: NDArray[np.int64]


class ModelRunner:
    """Executes batches on a model. The caller appends the samples to the sequences.

    All prefill tokens and all decode tokens of an iteration go through the model as one flat batch,
    without padding. A batch with `padded_len` (request level) is what FasterTransformer computes: prompts
    padded on the left, padding really computed, and sequences that have ended along with the others.
    """

    def __init__(
        self, model: Decoder, cache: KVCache, memory: KVManager, ops: Ops, *, save_logprobs: bool = False
    ) -> None:
        self._model = model
        self._cache = cache
        self._memory = memory
        self._ops = ops
        self._save_logprobs = save_logprobs
        self._prompts: dict[int, NDArray[np.int64]] = {}  # of requests whose prompt is computed in parts

    def execute(self, batch: Batch) -> Samples:
        """Compute the batch. Rows of the answer: prefills that sample, then decodes that are alive."""
        with torch.inference_mode():
            if batch.copies:
                self._copy(batch.copies)
            return self._run(batch) if batch else Samples()

    def _copy(self, copies: Items[Copy]) -> None:
        lens = np.array([copy.num_slots for copy in copies])
        offsets = np.arange(lens.sum()) - np.repeat(np.cumsum(lens) - lens, lens)  # [num_copied]
        sources = np.repeat([copy.source for copy in copies], lens) + offsets
        destinations = np.repeat([copy.destination for copy in copies], lens) + offsets
        device = self._cache.device
        self._ops.copy_slots(
            self._cache.tensors,
            on_device(sources, torch.int64, device),
            on_device(destinations, torch.int64, device),
        )

    def _run(self, batch: Batch) -> Samples:
        prefills = self._prefills(batch.prefills, batch.padded_len) if batch.prefills else None
        decodes = self._decodes(batch.decodes) if batch.decodes else None
        parts = [part for part in (prefills, decodes) if part is not None]
        attend = BatchAttention(
            self._cache, self._ops, prefills.rows if prefills else None, decodes.rows if decodes else None
        )
        hidden = self._model.forward(
            self._tensor([part.token_ids for part in parts]),
            self._tensor([part.rows.positions for part in parts]),
            attend,
        )  # [num_tokens, hidden_size]
        first_tokens = (0, parts[0].rows.num_tokens)
        sampled = [part.sampled + first for part, first in zip(parts, first_tokens, strict=False)]
        sequences = [sequence for part in parts for sequence in part.sequences]
        return self._sample(hidden, self._tensor(sampled), sequences)

    def _tensor(self, parts: list[NDArray[np.int64]]) -> Tensor:
        return on_device(np.concatenate(parts), torch.int64, self._cache.device)

    def _prefills(self, prefills: Items[Prefill], padded_len: int | None) -> Part:
        assert padded_len is None or all(prefill.start == 0 for prefill in prefills), (
            "padded prompts are whole"
        )
        starts = np.array([prefill.start for prefill in prefills], dtype=np.int64)
        stops = np.array([prefill.stop for prefill in prefills], dtype=np.int64)
        rows = self._rows([prefill.sequence for prefill in prefills], starts, stops, padded_len)
        token_ids = np.full(rows.num_tokens, PADDING_TOKEN, dtype=np.int64)
        for prefill, end in zip(prefills, rows.row_ends, strict=True):
            token_ids[end - prefill.num_tokens : end] = self._tokens_of(prefill)
        samples = np.array([prefill.samples for prefill in prefills])
        sequences = [prefill.sequence for prefill in prefills if prefill.samples]
        return Part(rows, token_ids, sequences, rows.row_ends[samples] - 1)

    def _decodes(self, decodes: Items[Sequence]) -> Part:
        stops = np.array([sequence.num_stored for sequence in decodes], dtype=np.int64)
        rows = self._rows(decodes, stops - 1, stops, None)
        token_ids = np.array([sequence.output_ids[-1] for sequence in decodes], dtype=np.int64)
        return Part(rows, token_ids, list(decodes), np.arange(len(decodes)))

    def _rows(
        self,
        sequences: Items[Sequence],
        starts: NDArray[np.int64],
        stops: NDArray[np.int64],
        padded_len: int | None,
    ) -> Rows:
        device = self._cache.device
        addresses = addresses_of([self._memory.placement(sequence) for sequence in sequences], device)
        return Rows(addresses, starts, stops, padded_len, device)

    def _tokens_of(self, prefill: Prefill) -> NDArray[np.int64]:
        """The tokens at the prefill's positions: of the prompt, then of the reply.  # [num_tokens]"""
        sequence = prefill.sequence
        request = sequence.group.request
        ids = self._prompts.get(request.request_id)
        if ids is None:
            ids = self._prompts[request.request_id] = request.prompt.ids(self._model.shape.vocab_size)
        if prefill.samples:
            del self._prompts[request.request_id]
        if prefill.stop > len(ids):  # a preempted sequence also recomputes what it had generated
            ids = np.concatenate((ids, np.array(sequence.output_ids, dtype=np.int64)))
        return ids[prefill.start : prefill.stop]

    def _sample(self, hidden: Tensor, sampled: Tensor, sequences: list[Sequence]) -> Samples:
        """One token for each of `sequences`, from the rows `sampled` of `hidden`; none for the dead."""
        if not sequences:
            if hidden.is_cuda:
                torch.cuda.synchronize(
                    hidden.device
                )  # no sample is read, and yet the iteration must be over
            return Samples()
        rows = hidden if len(sequences) == len(hidden) else hidden.index_select(0, sampled)
        choice = greedy(self._model.logits(rows), self._save_logprobs)
        alive = [i for i, sequence in enumerate(sequences) if _is_alive(sequence)]
        return Samples(
            [sequences[i] for i in alive],
            [choice.tokens[i] for i in alive],
            [choice.logprobs[i] for i in alive],
        )


def _is_alive(sequence: Sequence) -> bool:
    return len(sequence.output_ids) < sequence.group.request.output_len
