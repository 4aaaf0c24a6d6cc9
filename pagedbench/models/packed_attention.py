"""PackedAttention replaces attention modules that only project, norm and rotate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pagedbench.models.layers import Rotation
from pagedbench.models.modules import freed, is_linear, packed
from pagedbench.models.norms import PackedNorm, formula_of, packed_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pagedbench.models.calls import Call
    from pagedbench.models.packing import Probe
    from pagedbench.ops.interface import Linear, Ops

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}
"""Tolerance relative to the largest element: another order of rounding stays below it, no rotation not."""


class Angles:
    """The angles that transformers passes to every layer, converted for our operation once per pass."""

    def __init__(self) -> None:
        self._cosine: Tensor | None = None
        self._rotation: Rotation | None = None

    def of(self, cosine: Tensor, sine: Tensor, head_dim: int) -> Rotation:
        """Convert angles of the shape [1, num_tokens, head_dim] (two equal halves) or half of it."""
        if cosine is not self._cosine or self._rotation is None:
            halves = (side[0, :, : head_dim // 2].float().contiguous() for side in (cosine, sine))
            self._cosine, self._rotation = cosine, Rotation(*halves)
        return self._rotation


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an attention module computes its call of the interface from its input, as seen in a pass."""

    linears: Sequence[Any]  # query, key, value
    out: nn.Module
    norms: Sequence[nn.Module | None]  # of queries and of keys
    rotates: bool
    call: Call


class PackedAttention(nn.Module):
    """Projections in one product, norms, then the rotary embedding as part of the KV write."""

    def __init__(self, recipe: Recipe, angles: Angles, ops: Ops) -> None:
        super().__init__()
        call, biases = recipe.call, [linear.bias for linear in recipe.linears]
        bias = None if biases[0] is None else torch.cat(biases)
        self._qkv: Linear = ops.linear(freed(*recipe.linears), bias)
        self._out = packed(recipe.out, ops)
        self._norms = [_packed(norm, ops) for norm in recipe.norms]
        self._call = call.without_tensors()
        self._heads = [side.shape[1] for side in (call.query, call.key, call.value)]
        self._head_dim = call.query.shape[2]
        self._angles = angles if recipe.rotates else None

    def forward(
        self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor] | None = None, **_: Any
    ) -> tuple[Tensor, None]:
        """[1, num_tokens, hidden_size] both, and no weights."""
        qkv = self._qkv(hidden_states[0]).view(hidden_states.shape[1], -1, self._head_dim)
        query, key, value = qkv.split(self._heads, dim=1)  # [num_tokens, heads, head_dim] each
        query, key = (_normed(side, norm) for side, norm in zip((query, key), self._norms, strict=True))
        rotation = None
        if self._angles is not None:
            assert position_embeddings is not None, "the module rotated when it was looked at"
            rotation = self._angles.of(*position_embeddings, self._head_dim)
        out = self._call(query, key, value, rotation)  # [num_tokens, num_heads, head_dim]
        return self._out(out.flatten(1))[None], None


def _packed(norm: nn.Module | None, ops: Ops) -> PackedNorm | None:
    formula = None if norm is None else formula_of(norm)
    return None if formula is None else packed_norm(norm, formula, ops)


def _normed(side: Tensor, norm: PackedNorm | None) -> Tensor:
    """A norm over each head, or over all heads of a token (OLMo 2).  # [num_tokens, heads, head_dim]"""
    if norm is None:
        return side
    return norm(side if norm.size == side.shape[2] else side.flatten(1)).view(side.shape)


def recipe_of(
    module: Any, probe: Probe, calls: dict[int, Call], answers: dict[int, Tensor]
) -> Recipe | None:
    """The recipe of an attention module; None if it does anything else, and for all other modules."""
    call, linears = calls.get(getattr(module, "layer_idx", -1)), probe.linears_of(module)
    if call is None or len(linears) != 4 or probe.calls[module] != 1:
        return None
    *sides, out = linears
    is_shared = all(probe.inputs[linear] is probe.inputs[module] for linear in sides)
    is_last = probe.outputs[out] is probe.outputs[module]
    is_alike = len({linear.bias is None for linear in sides}) == 1
    if not (is_shared and is_last and is_alike):
        return None
    norms = [_norm_of(module, linear, probe) for linear in sides[:2]]
    if any(norm is not None and formula_of(norm) is None for norm in norms):
        return None
    rotates = _rotates(call, sides, norms, probe, probe.positions.get(module))
    is_plain = torch.equal(probe.inputs[out].flatten(), answers[call.layer].flatten())
    return None if rotates is None or not is_plain else Recipe(sides, out, norms, rotates, call)


def _norm_of(module: nn.Module, linear: nn.Module, probe: Probe) -> nn.Module | None:
    """The child that reads the product of `linear`, as a whole or by heads."""
    start = probe.outputs[linear].data_ptr()
    for child in module.children():
        if child in probe.inputs and not is_linear(child) and probe.inputs[child].data_ptr() == start:
            return child
    return None


def _rotates(
    call: Call,
    linears: Sequence[nn.Module],
    norms: Sequence[nn.Module | None],
    probe: Probe,
    positions: tuple[Tensor, Tensor] | None,
) -> bool | None:
    """Are queries and keys the normed products rotated (True) or unrotated (False)? None: neither."""
    outputs = [probe.outputs[norm or linear] for norm, linear in zip(norms, linears, strict=False)]
    sides = (call.query, call.key)
    if not _are_equal(probe.outputs[linears[2]], call.value):
        return None
    if all(_are_equal(output, side) for output, side in zip(outputs, sides, strict=True)):
        return False
    head_dim = call.query.shape[2]
    if positions is None or positions[0].shape[-1] not in (head_dim, head_dim // 2):
        return None
    rotation = Angles().of(*positions, head_dim)
    rotated = [
        _rotated(output.reshape(side.shape), rotation) for output, side in zip(outputs, sides, strict=True)
    ]
    return True if all(_are_equal(*pair) for pair in zip(rotated, sides, strict=True)) else None


def _are_equal(output: Tensor, side: Tensor) -> bool:
    """Are they equal except for rounding? `output` may have other dimensions."""
    if output.numel() != side.numel():
        return False
    off = (output.reshape(side.shape).float() - side.float()).abs().max()
    return bool(off <= TOLERANCES[side.dtype] * side.float().abs().max())


def _rotated(side: Tensor, rotation: Rotation) -> Tensor:
    """Rotate queries or keys as `Ops.rotate_and_write_kv` does."""
    first, second = side.float().chunk(2, dim=-1)
    cosine, sine = rotation.cosine[:, None], rotation.sine[:, None]  # [num_tokens, 1, head_dim / 2]
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
