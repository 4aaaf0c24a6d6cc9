"""All layers in one call: the bits of the layers one by one, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from pagedbench.ops import reference
from pagedbench.ops.addresses import BlockTables, Extents
from pagedbench.ops.fused import DecodeContexts, LayerWeights, NormWeights
from pagedbench.ops.quantized import quantized

pytest.importorskip("pagedbench.ops.native", reason="native kernels not built", exc_type=ImportError)

from pagedbench.ops import native

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.addresses import Addresses
    from pagedbench.ops.interface import Linear

pytestmark = pytest.mark.usefixtures("no_matrix_unit")

HEADS, KV_HEADS, HEAD_DIM, HIDDEN, FFN, NUM_LAYERS = 4, 2, 16, 48, 100, 3
LENS = torch.tensor([5, 1, 9], dtype=torch.int32)
TABLES = BlockTables(torch.tensor([[2, 0, 0], [4, 0, 0], [1, 5, 3]], dtype=torch.int32), 4)
BLOCK_SLOTS = torch.tensor([0, 16, 12])  # of the newest tokens, behind the second entry of 0
EXTENTS, EXTENT_SLOTS = Extents(torch.tensor([12, 20, 0])), torch.tensor([16, 20, 8])
WIDTH = (HEADS + 2 * KV_HEADS) * HEAD_DIM


def random(*shape: int) -> Tensor:
    return torch.randn(*shape) * 0.3


def make_layers(dtype: torch.dtype, *, is_gated: bool) -> list[LayerWeights]:
    """LLaMA's kind, or OPT's."""

    def linear(rows: int, columns: int, activation: str = "none") -> Linear:
        bias = None if is_gated else random(rows).to(dtype)
        return native.linear(random(rows, columns).to(dtype), bias, activation)

    def norm() -> NormWeights:
        bias = None if is_gated else random(HIDDEN).to(dtype)
        return NormWeights(random(HIDDEN).to(dtype), bias, 1e-5, is_centred=not is_gated)

    up = (2 * FFN, HIDDEN, "silu_gated") if is_gated else (FFN, HIDDEN, "relu")
    return [
        LayerWeights(
            *(norm(), linear(WIDTH, HIDDEN), linear(HIDDEN, HEADS * HEAD_DIM)),
            *(norm(), linear(*up), linear(HIDDEN, FFN)),
        )
        for _ in range(NUM_LAYERS)
    ]


def make_contexts(
    dtype: torch.dtype, addresses: Addresses, slots: Tensor, *, is_int8: bool
) -> DecodeContexts:
    def caches() -> list[Tensor]:
        sides = [random(24, KV_HEADS, HEAD_DIM).to(dtype) for _ in range(NUM_LAYERS)]
        return [quantized(side) for side in sides] if is_int8 else sides

    return DecodeContexts(caches(), caches(), slots, addresses, LENS, HEAD_DIM**-0.5)


def norm_of(norm: NormWeights, hidden: Tensor, delta: Tensor | None) -> Tensor:
    if norm.is_centred:
        return native.layer_norm(hidden, delta, norm.weight, norm.bias, norm.epsilon)
    assert norm.weight is not None
    return native.rms_norm(hidden, delta, norm.weight, norm.epsilon)


def one_by_one(
    layers: list[LayerWeights],
    hidden: Tensor,
    delta: Tensor | None,
    angles: tuple[Tensor, Tensor] | None,
    contexts: DecodeContexts,
) -> Tensor:
    for layer, keys, values in zip(layers, contexts.keys, contexts.values, strict=True):
        qkv = layer.qkv(norm_of(layer.attention_norm, hidden, delta)).view(len(hidden), -1, HEAD_DIM)
        query, key, value = qkv.tensor_split((HEADS, HEADS + KV_HEADS), dim=1)
        if angles is None:
            native.write_kv(key, value, keys, values, contexts.slots)
        else:
            native.rotate_and_write_kv(query, key, value, keys, values, contexts.slots, *angles)
        where = (contexts.addresses, contexts.lens, contexts.scale)
        attention = native.attend_decode(query, keys, values, *where)
        normed = norm_of(layer.ffn_norm, hidden, layer.out(attention.flatten(1)))
        delta = layer.down(layer.up(normed))
    assert delta is not None
    return delta


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_gated", [False, True])
@pytest.mark.parametrize("is_int8", [False, True])
@pytest.mark.parametrize(("addresses", "slots"), [(TABLES, BLOCK_SLOTS), (EXTENTS, EXTENT_SLOTS)])
def test_the_bits_of_layers_one_by_one(
    dtype: torch.dtype, addresses: Addresses, slots: Tensor, *, is_gated: bool, is_int8: bool
) -> None:
    torch.manual_seed(0)
    layers = make_layers(dtype, is_gated=is_gated)
    contexts = make_contexts(dtype, addresses, slots, is_int8=is_int8)
    hidden, delta = random(3, HIDDEN).to(dtype), None if is_gated else random(3, HIDDEN).to(dtype)
    angles = (random(3, HEAD_DIM // 2), random(3, HEAD_DIM // 2)) if is_gated else None
    again, own = (
        hidden.clone(),
        [[side.clone() for side in sides] for sides in (contexts.keys, contexts.values)],
    )
    fused = native.fuse(layers)
    assert fused is not None
    found = fused(hidden, delta, angles, contexts)
    kept = replace(contexts, keys=own[0], values=own[1])
    assert torch.equal(found, one_by_one(layers, again, delta, angles, kept))
    assert torch.equal(hidden, again)
    sides = zip((*contexts.keys, *contexts.values), (*own[0], *own[1]), strict=True)
    assert all(torch.equal(one.view(torch.int8), other.view(torch.int8)) for one, other in sides)


def test_layers_that_are_not_packed_or_differ_are_not_fused() -> None:
    layers = make_layers(torch.float32, is_gated=False)
    assert native.fuse([*layers, replace(layers[0], down=reference.linear(random(HIDDEN, FFN)))]) is None
    other = replace(layers[0], ffn_norm=replace(layers[0].ffn_norm, epsilon=1e-6))
    assert native.fuse([*layers, other]) is None


def test_weights_that_do_not_fit_are_refused() -> None:
    layers = make_layers(torch.float32, is_gated=False)
    wrong = replace(layers[1], up=native.linear(random(FFN + 1, HIDDEN)))
    with pytest.raises(ValueError, match="do not fit together"):
        native.fuse([layers[0], wrong])
    short = replace(layers[1].ffn_norm, weight=torch.ones(HIDDEN - 1))
    with pytest.raises(ValueError, match="norms must be contiguous"):
        native.fuse([layers[0], replace(layers[1], ffn_norm=short)])


def test_contexts_that_do_not_fit_are_refused() -> None:
    fused = native.fuse(make_layers(torch.float32, is_gated=False))
    assert fused is not None
    hidden, contexts = random(3, HIDDEN), make_contexts(torch.float32, TABLES, BLOCK_SLOTS, is_int8=False)

    def refuses(error: type[Exception], message: str, x: Tensor = hidden, **changed: Any) -> None:
        with pytest.raises(error, match=message):
            fused(x, None, None, replace(contexts, **changed))

    refuses(
        ValueError, r"hidden, delta and out must have the shape \[num_tokens, 48\]", random(3, HIDDEN + 1)
    )
    refuses(TypeError, "hidden must have the dtype of|must have the dtype of", hidden.bfloat16())
    refuses(ValueError, "slot 24 lies outside", slots=torch.tensor([0, 1, 24]))
    refuses(ValueError, "block 6 lies outside", addresses=BlockTables(TABLES.tables + 1, 4))
    refuses(ValueError, "context_lens must be contiguous", lens=LENS[:2])
    refuses(ValueError, "a cache for each layer", keys=contexts.keys[:2])
    refuses(ValueError, "same shape", keys=[*contexts.keys[:2], random(23, KV_HEADS, HEAD_DIM)])
    refuses(TypeError, "one dtype", values=[side.double() for side in contexts.values])
    heads = [random(24, KV_HEADS + 1, HEAD_DIM)] * NUM_LAYERS
    refuses(ValueError, "the heads of the weights", keys=heads, values=heads)
