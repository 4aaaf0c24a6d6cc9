"""Which modules of a transformers model our operations replace: products, feed-forwards and norms."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from pagedbench.models.modules import (
    GatedFeedForward,
    PackedLinear,
    SharedInput,
    freed,
    is_linear,
    packed,
    weight_of,
)
from pagedbench.models.norms import replace_norms
from pagedbench.models.packed_attention import Angles, PackedAttention, recipe_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from pagedbench.models.calls import Call
    from pagedbench.ops.interface import Ops

ACTIVATIONS = {
    "ReLU": "relu",
    "GELUActivation": "gelu",
    "GELUTanh": "gelu_tanh",
    "NewGELUActivation": "gelu_tanh",
    "FastGELUActivation": "gelu_tanh",
}
"""Classes of activations, and what `ops.linear` calls them."""

SILU = ("SiLU", "SiLUActivation")


@dataclass(slots=True)
class Probe:
    """The inputs and outputs of all modules in one forward pass, kept to be compared.

    They show what a module reads and which module reads its result, without guessing from names.
    """

    inputs: dict[nn.Module, Tensor] = field(default_factory=dict)
    outputs: dict[nn.Module, Tensor] = field(default_factory=dict)
    calls: dict[nn.Module, int] = field(default_factory=lambda: defaultdict(int))
    order: list[nn.Module] = field(default_factory=list)
    positions: dict[nn.Module, tuple[Tensor, Tensor]] = field(default_factory=dict)  # of rotary embeddings
    attention: list[Call] = field(default_factory=list)
    answers: list[Tensor] = field(default_factory=list)

    def watch(self, model: nn.Module, run: Callable[[], object]) -> None:
        """Run a forward pass of the model and keep what its modules read and return."""
        handles = [module.register_forward_hook(self._saw, with_kwargs=True) for module in model.modules()]
        try:
            run()
        finally:
            for handle in handles:
                handle.remove()

    def answer(self, call: Call) -> Tensor:
        """Answer a layer with its values, one per query head.  # [num_tokens, num_heads, head_dim]"""
        self.attention.append(call)
        self.answers.append(call.value.repeat_interleave(call.query.shape[1] // call.value.shape[1], dim=1))
        return self.answers[-1]

    def _saw(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        hidden = args[0] if args else kwargs.get("hidden_states")
        is_attention = isinstance(out, tuple) and len(out) == 2 and out[1] is None
        result = out[0] if is_attention else out
        if not (isinstance(hidden, torch.Tensor) and isinstance(result, torch.Tensor)):
            return
        self.inputs[module], self.outputs[module] = hidden, result
        self.calls[module] += 1
        self.order.append(module)
        if kwargs.get("position_embeddings") is not None:
            self.positions[module] = kwargs["position_embeddings"]

    def linears_of(self, parent: nn.Module) -> list[nn.Module]:
        """The products among a module's children that run once in a pass, in order."""
        own = set(parent.children())
        return [m for m in self.order if m in own and is_linear(m) and self.calls[m] == 1]


def pack(model: nn.Module, probe: Probe, ops: Ops) -> None:
    """Replace products and norms in `model`; each weight is freed as soon as its packed copy exists."""
    angles, calls = Angles(), {call.layer: call for call in probe.attention}
    answers = {call.layer: answer for call, answer in zip(probe.attention, probe.answers, strict=True)}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            gated, recipe = _gated(child, probe), recipe_of(child, probe, calls, answers)
            if gated is not None:
                setattr(parent, name, _gated_feed_forward(*gated, ops))
            elif recipe is not None:
                setattr(parent, name, PackedAttention(recipe, angles, ops))
    for parent in list(model.modules()):
        _pack_shared(parent, probe, ops)
        _pack_single(parent, probe, ops)
    replace_norms(model, ops)


def _gated(module: nn.Module, probe: Probe) -> tuple[nn.Module, nn.Module, nn.Module] | None:
    """Gate, up and down of a feed-forward that computes down(silu(gate(x)) * up(x)); None for others."""
    linears = probe.linears_of(module)
    if len(linears) != 3 or probe.calls[module] != 1:
        return None
    gate, up, down = linears
    source = probe.inputs[module]
    is_between = probe.inputs[gate] is source is probe.inputs[up]
    if not is_between or probe.outputs[down] is not probe.outputs[module]:
        return None
    silus = [child for child in module.children() if type(child).__name__ in SILU]
    if len(silus) != 1 or probe.inputs.get(silus[0]) is not probe.outputs[gate] or _has_bias(gate, up):
        return None
    product = F.silu(probe.outputs[gate]) * probe.outputs[up]
    return (gate, up, down) if torch.equal(product, probe.inputs[down]) else None


def _has_bias(*linears: Any) -> bool:
    return any(linear.bias is not None for linear in linears)


def _gated_feed_forward(gate: nn.Module, up: nn.Module, down: nn.Module, ops: Ops) -> nn.Module:
    gate_up = ops.linear(freed(gate, up), None, "silu_gated")
    return GatedFeedForward(gate_up, packed(down, ops))


def _pack_shared(parent: nn.Module, probe: Probe, ops: Ops) -> None:
    """Merge products of the same input into one: query, key and value; gate and up."""
    groups: dict[int, list[Any]] = defaultdict(list)
    for linear in probe.linears_of(parent):
        groups[id(probe.inputs[linear])].append(linear)
    names = {child: name for name, child in parent.named_children()}
    for group in groups.values():
        if len(group) > 1 and len({linear.bias is None for linear in group}) == 1:
            sizes = [weight_of(linear).shape[0] for linear in group]
            bias = None if group[0].bias is None else torch.cat([linear.bias for linear in group])
            shared = SharedInput(ops.linear(freed(*group), bias), sizes)
            for index, linear in enumerate(group):
                setattr(parent, names[linear], shared.part(index))


def _pack_single(parent: nn.Module, probe: Probe, ops: Ops) -> None:
    for name, child in list(parent.named_children()):
        if not is_linear(child):
            continue
        activation = _activation_of(child, parent, probe)
        if activation is None:
            setattr(parent, name, PackedLinear(packed(child, ops)))
            continue
        which, kind = activation
        setattr(parent, name, PackedLinear(packed(child, ops, kind)))
        setattr(parent, which, nn.Identity())


def _activation_of(linear: nn.Module, parent: nn.Module, probe: Probe) -> tuple[str, str] | None:
    """The activation that is the only reader of a product: its name in the parent, and its kind."""
    for name, child in parent.named_children():
        kind = ACTIVATIONS.get(type(child).__name__)
        if kind and probe.calls[child] == 1 and probe.inputs[child] is probe.outputs.get(linear):
            return name, kind
    return None
