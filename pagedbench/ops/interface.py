"""Ops, the contract of every backend: the operations on a slot-addressed KV cache.

The cache of one layer is two tensors, `key_cache` and `value_cache`: [num_slots, num_kv_heads, head_dim],
or int8 [num_slots, num_kv_heads, head_dim + 4] with a scale after each head (`quantized.py`).
A slot is room for one token; `addresses` says which slots are a sequence's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pagedbench.ops.addresses import Addresses
    from pagedbench.ops.fused import FusedLayers, LayerWeights


class Linear(Protocol):
    """Computes activation(x · weightᵀ + bias), with a weight that was packed once."""

    @property
    def out_features(self) -> int:
        """Columns of the product."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """[num_tokens, in_features] to [num_tokens, out_features], in the weight's dtype."""
        ...

    def argmax(self, x: Tensor) -> Tensor:
        """The column of each row's largest output, the first among equals.  # int64 [num_tokens]"""
        ...


class Ops(Protocol):
    """A backend: a module with these operations. `reference` computes them in plain PyTorch.

    All tensors of a call are on one device and have one dtype, unless stated otherwise; caches may be int8
    with any dtype. The native kernels raise ValueError or TypeError for a wrong shape, dtype or address; on
    a GPU values are not checked.
    """

    name: str

    def write_kv(
        self, key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor
    ) -> None:
        """Store new tokens in their slots, as they are or quantized (`quantized.quantized`).

        Args:
            key, value: [num_tokens, num_kv_heads, head_dim]. The heads of a token are contiguous; tokens
                may be strided (views of one fused projection).
            slots: int64 [num_tokens]; -1 writes nothing (padding).
        """
        ...

    def rotate_and_write_kv(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        slots: Tensor,
        cosine: Tensor,
        sine: Tensor,
    ) -> None:
        """Rotate queries and keys by their positions, in place, and store new tokens as `write_kv` does.

        The pairs (i, i + head_dim / 2) of every head rotate by the token's angles (Su et al. 2021), in
        float32, and are rounded once, before an 8-bit cache rounds them again. Padding is also rotated.

        Args:
            query: [num_tokens, num_heads, head_dim], strided like key and value.
            cosine, sine: float32 [num_tokens, head_dim / 2].
        """
        ...

    def copy_runs(self, sources: Sequence[Tensor], destinations: Sequence[Tensor], runs: Tensor) -> None:
        """Copy runs of consecutive slots, in every layer; all are read before any is written.

        Args:
            sources, destinations: caches, [num_slots, num_kv_heads, head_dim] each, in pairs: of the same
                pool for copies within it, of two pools (perhaps on two devices) for swaps.
            runs: int64 [num_runs, 3], on the CPU: source slot, destination slot, number of slots (at least
                1). No destination slot occurs twice.
        """
        ...

    def layer_norm(
        self,
        hidden: Tensor,
        delta: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        epsilon: float,
    ) -> Tensor:
        """Add to the residual stream and return its norm: mean 0, variance 1, then weight and bias.

        Args:
            hidden: [num_tokens, size], the residual stream. `delta` is added to it in place, and rounded
                to its dtype.
            delta: [num_tokens, size]; None adds nothing.
            weight, bias: [size]; None: 1 and 0.

        Returns:
            [num_tokens, size], a new tensor. Mean and variance are computed in float32.
        """
        ...

    def rms_norm(self, hidden: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
        """Do the same as `layer_norm` with root mean square 1, then the weight (Zhang and Sennrich 2019).

        The normed value is rounded to the dtype of `hidden` before the weight multiplies it.
        """
        ...

    def linear(self, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Linear:
        """Prepare a weight once, for products activation(x · weightᵀ + bias).

        Args:
            weight: [num_rows, in_features]. The result may keep a packed copy instead: the caller should
                drop its own reference, so that the memory is freed.
            bias: [num_rows].
            activation: "none", "relu", "gelu", "gelu_tanh" or "silu_gated" (SwiGLU: the first half of the
                rows is the gate, the second half the gated values; the output has half the columns).
        """
        ...

    def fuse(self, layers: Sequence[LayerWeights]) -> FusedLayers | None:
        """All layers of a decoder as one call, for tokens that decode; None without any gain."""
        ...

    def attend_decode(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        addresses: Addresses,
        context_lens: Tensor,
        scale: float,
        window: int | None = None,
        sinks: int = 0,
        softcap: float | None = None,
        sink_logits: Tensor | None = None,
    ) -> Tensor:
        """Attention of one new token per sequence; its own key and value are already in the cache.

        A query at position p sees position q if q <= p and (window is None or q > p - window or q < sinks):
        the last `window` tokens, itself included, and the first `sinks` ones of the sequence (StreamingLLM,
        Xiao et al. 2023, arXiv:2309.17453). Table entries and slots of tokens that no query of the call
        sees may hold anything: the kernels do not read them. If there are first positions, every token that
        is seen and is not a sink is at or after the row's first position.

        Args:
            query: [num_sequences, num_heads, head_dim]; num_heads is a multiple of num_kv_heads.
            addresses: one row per sequence.
            context_lens: int32 [num_sequences], the new token included: its position + 1, whatever the
                window. A length of 0 gives zeros.
            scale: factor of the scores.
            window: tokens, at least 1. None: all.
            sinks: tokens. Without a window they only change the meaning of `first_positions`.
            softcap: above 0; a scaled score s becomes softcap * tanh(s / softcap) (Gemma 2,
                arXiv:2408.00118).
            sink_logits: float32 [num_heads], one more score in each head's softmax, without a value and
                never capped: it takes weight from the tokens (gpt-oss, arXiv:2508.10925).

        Returns:
            [num_sequences, num_heads, head_dim]. Scores and sums are in float32 at least.
        """
        ...

    def attend_prefill(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        addresses: Addresses,
        query_starts: Tensor,
        context_lens: Tensor,
        scale: float,
        window: int | None = None,
        sinks: int = 0,
        softcap: float | None = None,
        sink_logits: Tensor | None = None,
    ) -> Tensor:
        """Causal attention of the newest tokens of several sequences; otherwise as `attend_decode`.

        Args:
            query: [num_tokens, num_heads, head_dim], the sequences' rows one after another.
            query_starts: int32 [num_sequences + 1]; rows query_starts[i] to query_starts[i + 1] - 1 are
                the last positions of sequence i. A sequence whose prefix is cached computes only the rest.
            context_lens: int32 [num_sequences], the rows of `query` included.

        Returns:
            [num_tokens, num_heads, head_dim].
        """
        ...

    def padded_prefill(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        lengths: Tensor,
        scale: float,
        window: int | None = None,
        sinks: int = 0,
        softcap: float | None = None,
        sink_logits: Tensor | None = None,
    ) -> Tensor:
        """Causal attention over a dense batch, padded on the left (request-level batches).

        Args:
            query: [num_sequences, padded_len, num_heads, head_dim]; key and value with num_kv_heads, in
                the form that a cache has. Their padding must be finite.
            lengths: int [num_sequences], without padding. Rows of padding give finite values without
                meaning.
            window, sinks, softcap, sink_logits: see `attend_decode`; positions count without padding.
        """
        ...
