"""CUDA graphs: iterations without prefills are recorded once for each padded size, and replayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pagedbench.execution.attention import BatchAttention, layers_of
from pagedbench.execution.step_inputs import InputTensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Items

    from torch import Tensor

    from pagedbench.execution.attention import LayerCache
    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.models.decoder import Decoder
    from pagedbench.ops.addresses import Addresses
    from pagedbench.ops.interface import Ops

MAX_ROWS = 512
"""Largest batch with a graph: the device needs longer for larger ones than the host to launch kernels."""

ROWS_STEP = 8
"""Batches are padded to 1, 2, 4, or a multiple of this many rows."""


class CUDAReplay:
    """Records work on the device as CUDA graphs, which share their memory: one of them runs at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Record what the function does. It must not read a value from the device.

        The returned function does the same to the same memory each time it is called, and always returns
        the same tensor, which holds until another graph is replayed.
        """
        function()  # compiles kernels and lets libraries choose theirs, which a capture forbids
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = function()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


@dataclass(frozen=True, slots=True)
class _Graph:
    inputs: InputTensors  # in memory that stays where it is
    replay: Callable[[], Tensor]


class DecodeGraphs:
    """The forward pass of decoding sequences, from their inputs to the states, as recorded graphs.

    A batch runs on the smallest graph that holds it. Block tables are as wide as the longest sequence
    needs, so that attention splits its work in the same way whatever the lengths are. A graph is recorded
    when it is first needed, or earlier by `capture_up_to`. Copies, swaps and sampling run outside of it.
    """

    def __init__(self, model: Decoder, layers: Items[LayerCache], replay: CUDAReplay) -> None:
        self._model = model
        self._layers = layers
        self._replay = replay
        self._max_len = min(model.shape.max_model_len, len(layers[0].keys))
        self._graphs: dict[tuple[int, int], _Graph] = {}  # by layout and number of rows

    @property
    def sizes(self) -> set[tuple[int, int]]:
        """Layout (see `BlockTables.layout`) and number of rows of every graph that is recorded."""
        return set(self._graphs)

    def forward(self, decodes: InputTensors) -> Tensor:
        """The states after the final norm, [num_decodes, hidden_size]; valid until the next call."""
        if decodes.num_decodes > MAX_ROWS:
            return self._compute(decodes)
        graph = self._graph(decodes.addresses, padded(decodes.num_decodes))
        graph.inputs.fill(decodes)
        return graph.replay()[: decodes.num_decodes]

    def capture_up_to(self, max_rows: int) -> None:
        """Record the graphs for batches of up to `max_rows`, in the layouts that were used so far."""
        seen = {layout: graph.inputs.addresses for (layout, _), graph in self._graphs.items()}
        with torch.inference_mode():
            for addresses in seen.values():
                for num_rows in sizes_up_to(min(max_rows, MAX_ROWS)):
                    self._graph(addresses, num_rows)

    def _graph(self, addresses: Addresses, num_rows: int) -> _Graph:
        key = (addresses.layout, num_rows)
        if key not in self._graphs:
            device = self._layers[0].keys.device
            blank = addresses.blank(num_rows, self._max_len)
            inputs = InputTensors.padding(blank, num_rows, device)
            self._graphs[key] = _Graph(inputs, self._replay.capture(lambda: self._compute(inputs)))
        return self._graphs[key]

    def _compute(self, inputs: InputTensors) -> Tensor:
        attend = BatchAttention(self._layers, inputs)
        return self._model.forward(inputs.token_ids, inputs.positions, attend, None)


def padded(num_rows: int) -> int:
    """The size that a batch of `num_rows` is padded to."""
    if num_rows <= ROWS_STEP // 2:
        return 1 << (num_rows - 1).bit_length()
    return -(-num_rows // ROWS_STEP) * ROWS_STEP


def sizes_up_to(max_rows: int) -> list[int]:
    """Sizes for batches of up to `max_rows`, the largest first: the others reuse its memory."""
    return sorted({padded(num_rows) for num_rows in range(1, max_rows + 1)}, reverse=True)


def decode_graphs(model: Decoder, cache: KVCache, ops: Ops) -> DecodeGraphs | None:
    """Graphs for a model over a pool, shared by all its executors; None where they are not supported."""
    if cache.device.type != "cuda" or ops.name != "triton" or not model.is_capturable:
        return None
    return DecodeGraphs(model, layers_of(cache, ops, model.shape.layer_groups), CUDAReplay())
