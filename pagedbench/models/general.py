"""GeneralModel: transformers' own modelling code over our flat batch, by way of its attention interface."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import torch

from pagedbench.models.calls import ATTENTION, Answer, Call, answering, register
from pagedbench.models.decoder import Decoder
from pagedbench.models.expert_rows import pad_experts
from pagedbench.models.hugging_face import checkpoint_module, random_module
from pagedbench.models.modules import PackedLinear, packed
from pagedbench.models.packing import Probe, pack
from pagedbench.models.weights import RandomWeights
from pagedbench.simulation.config_shapes import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from pagedbench.models.layers import Attend
    from pagedbench.models.weights import Weights
    from pagedbench.ops.interface import Ops
    from pagedbench.simulation.shapes import ModelShape


class GeneralModel(Decoder):
    """A causal language model of transformers, its products and norms replaced by our packed ones.

    The batch is one row of tokens with their positions, without mask or past: our attention knows which
    tokens belong to one sequence. What is done to the last states (a soft cap, a scale) is also the
    architecture's own code.
    """

    is_capturable = False  # experts are chosen on the host

    def __init__(self, module: Any, shape: ModelShape, ops: Ops) -> None:
        """Use `module`, which must have been made with the attention `ATTENTION`.

        Raises:
            ModelError: it does not compute attention as `shape` says, or not through the interface.
        """
        self.shape = shape
        self._body = module.get_decoder()  # the text model, where a model also sees images
        with torch.no_grad():
            pad_experts(self._body)
            self._pack(ops)
            head = module.get_output_embeddings()
            size = head.weight.shape[1]
            self._head = packed(head, ops)
            self._tail = _tail_of(module, self._body, head, PackedLinear(self._head))
            some = torch.linspace(-1, 1, 2 * size).view(2, size)  # any states
            some = some.to(self._body.dtype).to(self._body.device)
            self._is_plain = torch.equal(self.logits(some), self._head(some))

    def _pack(self, ops: Ops) -> None:
        """Replace the modules that our operations compute; a pass of two tokens shows their calls."""
        if "position_ids" not in inspect.signature(self._body.forward).parameters:
            raise ModelError(f"{self.shape.name} takes no positions of tokens: choose another model")
        probe, length = Probe(), self.shape.max_model_len
        tokens = torch.arange(2, device=self._body.device)
        # Late positions: anything that depends on the position shows there.
        positions = torch.tensor([length // 2, length - 1], device=self._body.device)
        try:
            probe.watch(self._body, lambda: self._states(tokens, positions, probe.answer))
        except Exception as error:
            raise ModelError(
                f"{self.shape.name} cannot run on a flat batch: its code in transformers says "
                f"{type(error).__name__}: {' '.join(str(error).split())}"
            ) from error
        _check(self.shape, probe.attention)
        pack(self._body, probe, ops)

    def forward(self, token_ids: Tensor, positions: Tensor, attend: Attend, rows: Tensor | None) -> Tensor:
        def answer(call: Call) -> Tensor:
            return attend(call.layer, call.query, call.key, call.value, call.rotation, None, call.params)

        states = self._states(token_ids, positions, answer)
        return states if rows is None else states.index_select(0, rows)

    def _states(self, token_ids: Tensor, positions: Tensor, answer: Answer) -> Tensor:
        """The states after the final norm.  # [num_tokens, hidden_size]"""
        with answering(answer):
            out = self._body(input_ids=token_ids[None], position_ids=positions[None], use_cache=False)
        states: Tensor = out.last_hidden_state[0]
        return states

    def logits(self, states: Tensor) -> Tensor:
        logits: Tensor = self._tail(inputs_embeds=states[None], use_cache=False).logits[0]
        return logits

    def greedy(self, states: Tensor) -> Tensor:
        return self._head.argmax(states) if self._is_plain else self.logits(states).argmax(dim=-1)


def general_model(config: Any, shape: ModelShape, folder: Path, weights: Weights, ops: Ops) -> GeneralModel:
    """The model of a config by transformers' own code, with the weights of its folder or random ones.

    Raises:
        ModelError: transformers cannot make or load it, or it cannot run on a flat batch.
    """
    register()
    if isinstance(weights, RandomWeights):
        module = random_module(config.get_text_config(decoder=True), ATTENTION, weights)
    else:
        module = checkpoint_module(folder, ATTENTION, weights.dtype, weights.device)
    return GeneralModel(module, shape, ops)


class _States:
    """What a model's layers return: their states, and nothing under any other name."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states  # [1, num_rows, hidden_size]

    def __getitem__(self, index: Any) -> Any:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


class _StatesAsGiven(torch.nn.Module):
    """Replaces a model's layers where their states are known: only what follows them is computed."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> _States:
        return _States(inputs_embeds)


def _tail_of(module: Any, body: Any, head: Any, packed_head: PackedLinear) -> Any:
    """The same model, without its layers, and with our head instead of its own."""
    paths = {part: path for path, part in module.named_modules()}
    first, *inner = paths[body].split(".")
    states = _StatesAsGiven()
    for name in inner:  # OPT's layers are in `model.decoder`
        states.__dict__[name] = states
    tail = copy.copy(module)
    tail._modules = {**module._modules, first: states, paths[head]: packed_head}
    return tail


def _check(shape: ModelShape, calls: list[Call]) -> None:
    """Compare the calls of a forward pass with the shape that the memory is planned with.

    Raises:
        ModelError: they differ.
    """
    if [call.layer for call in calls] != list(range(shape.num_layers)):
        raise ModelError(
            f"{shape.name} computes attention {len(calls)} times in {shape.num_layers} layers through "
            "transformers' attention interface: choose a model in which every layer does so once"
        )
    for call, group in zip(calls, shape.groups_by_layer, strict=True):
        window = None if (call.window or shape.max_model_len) >= shape.max_model_len else call.window
        seen = (call.query.shape[1], *call.key.shape[1:], *call.value.shape[1:], window)
        side = (shape.num_kv_heads, shape.head_dim)
        if seen != (shape.num_heads, *side, *side, group.window):
            raise ModelError(
                f"layer {call.layer} of {shape.name} has the heads, sizes and window {seen}, which its "
                "config.json does not say: choose another model"
            )
