"""ModelRunner computes iterations from arrays alone; ModelExecutor stands between it and the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from pagedbench.execution.attention import BatchAttention, layers_of
from pagedbench.execution.input_builder import InputBuilder
from pagedbench.execution.sampling import sample
from pagedbench.execution.step_inputs import InputTensors
from pagedbench.memory.layer_group import ALL_LAYERS
from pagedbench.memory.moves import Pool

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.execution.cuda_graphs import DecodeGraphs
    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.execution.step_inputs import StepInputs, StepOutputs
    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.manager import KVManager
    from pagedbench.models.decoder import Decoder
    from pagedbench.ops.interface import Ops
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import Samples


class ModelRunner:
    """Runs a model: moves and copies of keys and values, one forward pass, then sampling.

    All tokens of an iteration go through the model as one flat batch, without padding. Only the prefills of
    a request-level batch are padded on the left, and the padding is really computed, as FasterTransformer
    does. Iterations without prefills run on `graphs`, if there are any, of the same model and pool.
    """

    def __init__(
        self,
        model: Decoder,
        cache: KVCache,
        ops: Ops,
        *,
        layer_groups: tuple[LayerGroup, ...] = (ALL_LAYERS,),
        graphs: DecodeGraphs | None = None,
        save_logprobs: bool = False,
    ) -> None:
        """`layer_groups`: of the memory manager, in which the pool is laid out."""
        self._model = model
        self._cache = cache
        self._ops = ops
        self._save_logprobs = save_logprobs
        self._graphs = graphs
        self._layers = layers_of(cache, ops, model.shape.layer_groups, layer_groups)

    def run(self, inputs: StepInputs) -> StepOutputs:
        """Compute an iteration; returns when its tokens are known."""
        with torch.inference_mode():
            for moves in inputs.moves:
                self._cache.move(moves, self._ops)
            states = self._forward(InputTensors.of(inputs, self._cache.device))
            outputs = sample(self._model, states, inputs.sampling, with_logprobs=self._save_logprobs)
            if states.is_cuda and not (outputs.tokens or outputs.beams):
                torch.cuda.synchronize(states.device)  # no token was read, but the iteration must be over
            return outputs

    def _forward(self, inputs: InputTensors) -> Tensor:
        """The states that tokens are sampled from.  # [num_sampled, hidden_size]"""
        self._cache.join_swaps()
        if self._graphs is not None and inputs.query_starts is None:
            return self._graphs.forward(inputs)
        attend = BatchAttention(self._layers, inputs)
        return self._model.forward(inputs.token_ids, inputs.positions, attend, inputs.sampled_tokens)


class Runner(Protocol):
    """A `ModelRunner`, of this process or another one."""

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
        cache = cache.in_groups(memory.layer_groups)
        cache.reserve_host(memory.num_host_slots)
        if memory.tiers is not None:
            cache.reserve_host(memory.tiers.num_host_slots, Pool.HOST_CACHE)
        is_apart = cache.device.type != "cpu"
        builder = InputBuilder(memory, model.shape.vocab_size, pin_memory=is_apart)
        groups = memory.layer_groups
        runner = ModelRunner(
            model, cache, ops, layer_groups=groups, graphs=graphs, save_logprobs=save_logprobs
        )
        return cls(builder, runner)

    def execute(self, batch: Batch) -> Samples:
        """Compute the batch. The answer has greedy sequences first, then random ones, then beams."""
        return self._builder.samples(self._runner.run(self._builder.build(batch)))
