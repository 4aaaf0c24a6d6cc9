"""ModelRunner: one iteration on a real model. Moves and copies, then one forward pass, then samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pagedbench.execution.attention import BatchAttention, layers_of
from pagedbench.execution.decoding import Takers, decode
from pagedbench.execution.rows import DecodeRows, PrefillRows, on_device
from pagedbench.scheduling.samples import Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from pagedbench.execution.cuda_graphs import DecodeGraphs
    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.memory.manager import KVManager
    from pagedbench.models.decoder import Decoder
    from pagedbench.ops.interface import Ops
    from pagedbench.scheduling.batch import Batch, Prefill

PADDING_TOKEN = 0
"""What padding is computed from; nobody reads what comes out."""


class ModelRunner:
    """Executes batches on a model. The caller appends the samples to the sequences.

    All prefill tokens and all decode tokens of an iteration go through the model as one flat batch,
    without padding. A batch with `padded_len` (request level) is what FasterTransformer computes: prompts
    padded on the left, padding really computed, and sequences that have ended along with the others.
    Iterations without prompts run on `graphs`, if there are any, of the same model and pool.
    """

    def __init__(
        self,
        model: Decoder,
        cache: KVCache,
        memory: KVManager,
        ops: Ops,
        *,
        graphs: DecodeGraphs | None = None,
        save_logprobs: bool = False,
    ) -> None:
        self._model = model
        self._cache = cache
        self._memory = memory
        self._ops = ops
        self._save_logprobs = save_logprobs
        self._graphs = graphs
        self._layers = layers_of(cache, ops)
        cache.reserve_host(memory.num_host_slots)
        self._decodes = DecodeRows(memory, cache.device)
        self._takers = Takers()  # of the decoding sequences
        self._seating = 0  # the number of the seating that they are of
        self._prompts: dict[int, NDArray[np.int64]] = {}  # of requests whose prompt is computed in parts

    def execute(self, batch: Batch) -> Samples:
        """Compute the batch. See `decoding.decode` for the order of the answer."""
        with torch.inference_mode():
            self._cache.swap_out(batch.swap_outs, self._ops)
            self._cache.swap_in(batch.swap_ins, self._ops)
            self._cache.copy(batch.copies, self._ops)
            return self._run(batch) if batch else Samples()

    def _run(self, batch: Batch) -> Samples:
        prefills, decodes = None, None
        if batch.prefills:
            prefills = PrefillRows(batch.prefills, self._memory, batch.padded_len, self._cache.device)
        if batch.decodes:
            decodes = self._decodes
            decodes.update(batch)
        return self._sample(self._forward(batch, prefills, decodes), batch)

    def _forward(self, batch: Batch, prefills: PrefillRows | None, decodes: DecodeRows | None) -> Tensor:
        """The states that something is sampled from.  # [num_rows, hidden_size]"""
        token_ids, positions, rows = self._inputs(batch, prefills, decodes)
        self._cache.join_swaps()
        if self._graphs is not None and prefills is None and decodes is not None:
            return self._graphs.forward(decodes)
        attend = BatchAttention(self._layers, prefills, decodes)
        return self._model.forward(token_ids, positions, attend, rows)

    def _inputs(
        self, batch: Batch, prefills: PrefillRows | None, decodes: DecodeRows | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids and positions, prompts first, and which tokens something is sampled from."""
        if prefills is None:
            assert decodes is not None, "the batch is not empty"
            return decodes.token_ids, decodes.positions, decodes.rows
        token_ids = on_device(self._prompt_tokens(batch, prefills), torch.int64, self._cache.device)
        if decodes is None:
            return token_ids, prefills.positions, prefills.last_tokens
        return (
            torch.cat((token_ids, decodes.token_ids)),
            torch.cat((prefills.positions, decodes.positions)),
            torch.cat((prefills.last_tokens, decodes.rows + prefills.num_tokens)),
        )

    def _prompt_tokens(self, batch: Batch, rows: PrefillRows) -> NDArray[np.int64]:
        """The tokens of the prefills, one row after another.  # [num_tokens]"""
        token_ids = np.full(rows.num_tokens, PADDING_TOKEN, dtype=np.int64)
        for prefill, end in zip(batch.prefills, rows.row_ends, strict=True):
            token_ids[end - prefill.num_tokens : end] = self._tokens_of(prefill)
        for prefill in batch.prefills:
            if prefill.sampled:
                self._prompts.pop(prefill.sequence.group.request.request_id, None)
        return token_ids

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

    def _sample(self, states: Tensor, batch: Batch) -> Samples:
        """What the states, [num_rows, hidden_size], say to the sequences that each of them is for."""
        samples = Samples()
        if len(states):
            samples = decode(self._model, states, self._takers_of(batch), with_logprobs=self._save_logprobs)
        if states.is_cuda and not (samples.sequences or samples.beams):
            torch.cuda.synchronize(states.device)  # no sample is read, and yet the iteration must be over
        return samples

    def _takers_of(self, batch: Batch) -> Takers:
        """Who gets the tokens; of decoding sequences alone it is known until they change."""
        if batch.prefills:
            sampled = [prefill.sampled for prefill in batch.prefills if prefill.sampled]
            return Takers.of([*sampled, *((sequence,) for sequence in batch.decodes)])
        if self._seating != self._decodes.num_seatings:
            self._seating = self._decodes.num_seatings
            self._takers = Takers.of((sequence,) for sequence in batch.decodes)
        return self._takers
