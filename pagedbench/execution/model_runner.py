"""ModelRunner computes iterations from arrays alone; ModelExecutor stands between it and the scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from pagedbench.execution.attention import BatchAttention, layers_of
from pagedbench.execution.input_builder import InputBuilder
from pagedbench.execution.page_committer import PageCommitter
from pagedbench.execution.sampling import contribute, sample
from pagedbench.execution.step_inputs import InputTensors, StepOutputs
from pagedbench.execution.virtual_cache import VirtualCache
from pagedbench.memory.layer_group import ALL_LAYERS
from pagedbench.memory.moves import Pool
from pagedbench.memory.pages import PageChanges

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.execution.cuda_graphs import DecodeGraphs
    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.execution.step_inputs import MoveInputs, StepInputs
    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.manager import KVManager
    from pagedbench.memory.virtual.page_pool import PagePool
    from pagedbench.models.decoder import Decoder
    from pagedbench.ops.interface import Ops
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import Samples


@dataclass(frozen=True, slots=True)
class PoolLayout:
    """How an engine uses the KV pool. It can be pickled before the engine runs.

    Attributes:
        layer_groups: the memory manager's groups, by which the pool is laid out.
        num_host_slots, num_cache_slots: sizes of the host pools for swaps and for evicted prefixes.
        pages: the pages in which memory is committed; None: all slots have memory.
        save_logprobs: are the log-probabilities of all tokens needed?
    """

    layer_groups: tuple[LayerGroup, ...]
    num_host_slots: int
    num_cache_slots: int
    pages: PagePool | None
    save_logprobs: bool

    @classmethod
    def of(cls, memory: KVManager, *, save_logprobs: bool) -> PoolLayout:
        """The layout that a memory manager needs."""
        num_cache_slots = 0 if memory.tiers is None else memory.tiers.num_host_slots
        return cls(memory.layer_groups, memory.num_host_slots, num_cache_slots, memory.pages, save_logprobs)


class ModelRunner:
    """Runs a model: moves and copies of keys and values, one forward pass, then sampling.

    All tokens of an iteration go through the model as one flat batch, without padding. Only the prefills of
    a request-level batch are padded on the left, and the padding is really computed, as FasterTransformer
    does. Iterations without prefills run on `graphs` (of the same model and pool), if there are any.
    `pages` carries out changes of pages; without it the whole cache has memory from the beginning.
    """

    def __init__(
        self,
        model: Decoder,
        cache: KVCache,
        ops: Ops,
        *,
        layer_groups: tuple[LayerGroup, ...] = (ALL_LAYERS,),
        graphs: DecodeGraphs | None = None,
        pages: PageCommitter | None = None,
        save_logprobs: bool = False,
        decides: bool = True,
    ) -> None:
        """Run on a pool that is laid out for the memory manager.

        Args:
            layer_groups: the memory manager's groups, by which the pool is laid out.
            decides: does this process sample? Otherwise it contributes its part of the logits.
        """
        self._model = model
        self._cache = cache
        self._ops = ops
        self._save_logprobs = save_logprobs
        self._graphs = graphs
        self._pages = pages
        self._decides = decides
        self._layers = layers_of(cache, ops, model.shape.layer_groups, layer_groups)

    @classmethod
    def over(
        cls,
        model: Decoder,
        cache: KVCache,
        ops: Ops,
        layout: PoolLayout,
        *,
        graphs: DecodeGraphs | None = None,
        decides: bool = True,
    ) -> ModelRunner:
        """A runner of one engine, over the pool in its layout."""
        cache = cache.in_groups(layout.layer_groups)
        cache.reserve_host(layout.num_host_slots)
        if layout.num_cache_slots:
            cache.reserve_host(layout.num_cache_slots, Pool.HOST_CACHE)
        pages = None
        if isinstance(cache, VirtualCache) and layout.pages is not None:
            pages = PageCommitter(cache, layout.pages.counts)
        return cls(
            model,
            cache,
            ops,
            layer_groups=layout.layer_groups,
            graphs=graphs,
            pages=pages,
            save_logprobs=layout.save_logprobs,
            decides=decides,
        )

    def run(self, inputs: StepInputs) -> StepOutputs:
        """Compute an iteration; returns when its tokens are known."""
        with torch.inference_mode():
            for moves in inputs.moves:
                self._move(moves)
            states = self._forward(InputTensors.of(inputs, self._cache.device))
            with_logprobs = self._save_logprobs or inputs.sampling.with_logprobs
            if not self._decides:
                contribute(self._model, states, inputs.sampling, with_logprobs=with_logprobs)
                return StepOutputs([], [])
            outputs = sample(self._model, states, inputs.sampling, with_logprobs=with_logprobs)
            if states.is_cuda and not (outputs.tokens or outputs.beams):
                torch.cuda.synchronize(states.device)  # no token was read, but the iteration must be over
            return outputs

    def _move(self, moves: MoveInputs | PageChanges) -> None:
        if not isinstance(moves, PageChanges):
            self._cache.move(moves, self._ops)
        elif self._pages is not None:
            self._pages.change(moves)

    def _forward(self, inputs: InputTensors) -> Tensor:
        """The states that tokens are sampled from.  # [num_sampled, hidden_size]"""
        self._cache.join_swaps()
        if self._graphs is not None and inputs.query_starts is None:
            return self._graphs.forward(inputs)
        attend = BatchAttention(self._layers, inputs)
        return self._model.forward(inputs.token_ids, inputs.positions, attend, inputs.sampled_tokens)


class Runner(Protocol):
    """A `ModelRunner`, or one that other processes share."""

    def run(self, inputs: StepInputs) -> StepOutputs: ...


class ModelExecutor:
    """Executes batches on a model. The caller appends the samples to the sequences."""

    def __init__(self, builder: InputBuilder, runner: Runner) -> None:
        self._builder = builder
        self._runner = runner

    @classmethod
    def in_process(
        cls,
        model: Decoder,
        cache: KVCache,
        memory: KVManager,
        ops: Ops,
        *,
        graphs: DecodeGraphs | None = None,
        save_logprobs: bool = False,
    ) -> ModelExecutor:
        """An executor whose model runs in this process, over the pool in the layout of the manager."""
        is_apart = cache.device.type != "cpu"
        builder = InputBuilder(memory, model.shape.vocab_size, pin_memory=is_apart)
        layout = PoolLayout.of(memory, save_logprobs=save_logprobs)
        return cls(builder, ModelRunner.over(model, cache, ops, layout, graphs=graphs))

    def execute(self, batch: Batch) -> Samples:
        """Compute the batch. The samples have greedy sequences first, then random ones, then beams."""
        return self._builder.samples(self._runner.run(self._builder.build(batch)))
