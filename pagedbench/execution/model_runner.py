"""ModelRunner: one iteration on a real model. Moves and copies, then one forward pass, then samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pagedbench.execution.attention import BatchAttention, Rows, addresses_of, on_device
from pagedbench.execution.decoding import decode
from pagedbench.execution.executor import Samples

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
        last_tokens: [num_sampled]; those that something is sampled from, counted in this part.
        sampled: for each of them the sequences that get a token.
    """

    rows: Rows
    token_ids: NDArray[np.int64]
    last_tokens: NDArray[np.int64]
    sampled: list[tuple[Sequence, ...]]


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
        cache.reserve_host(memory.num_host_slots)
        self._prompts: dict[int, NDArray[np.int64]] = {}  # of requests whose prompt is computed in parts

    def execute(self, batch: Batch) -> Samples:
        """Compute the batch. See `decoding.decode` for the order of the answer."""
        with torch.inference_mode():
            self._cache.swap_out(batch.swap_outs)
            self._cache.swap_in(batch.swap_ins)
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
        last = [part.last_tokens + first for part, first in zip(parts, first_tokens, strict=False)]
        return self._sample(hidden, self._tensor(last), [item for part in parts for item in part.sampled])

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
        for prefill in prefills:
            if prefill.sampled:
                self._prompts.pop(prefill.sequence.group.request.request_id, None)
        is_last = np.array([bool(prefill.sampled) for prefill in prefills])
        sampled = [prefill.sampled for prefill in prefills if prefill.sampled]
        return Part(rows, token_ids, rows.row_ends[is_last] - 1, sampled)

    def _decodes(self, decodes: Items[Sequence]) -> Part:
        stops = np.array([sequence.num_stored for sequence in decodes], dtype=np.int64)
        rows = self._rows(decodes, stops - 1, stops, None)
        token_ids = np.array([sequence.output_ids[-1] for sequence in decodes], dtype=np.int64)
        return Part(rows, token_ids, np.arange(len(decodes)), [(sequence,) for sequence in decodes])

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
        if prefill.stop > len(ids):  # a preempted sequence also recomputes what it had generated
            ids = np.concatenate((ids, np.array(sequence.output_ids, dtype=np.int64)))
        return ids[prefill.start : prefill.stop]

    def _sample(self, hidden: Tensor, last: Tensor, sampled: list[tuple[Sequence, ...]]) -> Samples:
        """What the rows `last` of `hidden` say to the sequences that each of them is for."""
        samples = Samples()
        if sampled:
            rows = hidden if len(last) == len(hidden) else hidden.index_select(0, last)
            samples = decode(self._model.logits(rows), sampled, with_logprobs=self._save_logprobs)
        if hidden.is_cuda and not (samples.sequences or samples.beams):
            torch.cuda.synchronize(hidden.device)  # no sample is read, and yet the iteration must be over
        return samples
