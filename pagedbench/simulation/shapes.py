"""ModelShape: the dimensions of a decoder, for memory plans and cost models; OPT's and LLaMA's by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.memory.layer_group import ALL_LAYERS, LayerGroup

if TYPE_CHECKING:
    from pagedbench.simulation.experts import Experts

SCALE_SIZE = 4
"""Bytes of a scale, a float32: in 8 bits, each head of a token's keys and of its values has one."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The dimensions of a decoder-only transformer.

    Attributes:
        family: "opt" (one matrix up, biases, learned positions) or "llama" (a gated feed-forward).
        ffn_size: intermediate size of a feed-forward that every token passes.
        note: the parts that are simulated as simpler ones, in words; empty if there are none.
        layer_groups: the layers by the tokens that they keep; each layer is in one group.
        experts: the feed-forwards of the layers that have several.
        num_vectors: parameters in a layer's norms and biases, beyond those of every model of the family.
    """

    name: str
    family: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_size: int
    vocab_size: int
    max_model_len: int
    tied_embeddings: bool = True
    note: str = ""
    layer_groups: tuple[LayerGroup, ...] = (ALL_LAYERS,)
    experts: Experts | None = None
    num_vectors: int = 0

    def kv_bytes_per_token(self, element_size: int, num_ranks: int = 1, *, scale_size: int = 0) -> int:
        """Bytes of one token's keys and values in all layers (800 KiB for OPT-13B in 16 bit).

        On all ranks together: a head is never divided, so ranks beyond the number of KV heads repeat them.

        Args:
            scale_size: additional bytes per head.
        """
        heads = num_ranks * -(-self.num_kv_heads // num_ranks)
        return 2 * self.num_layers * heads * (self.head_dim * element_size + scale_size)

    def kept_kv_bytes(self, length: int, element_size: int) -> int:
        """Bytes of the keys and values that the next token of a sequence of `length` tokens still needs.

        Layers with a window need those in it, and their sinks.
        """
        kept = 0
        for group in self.layer_groups:
            num_layers = self.num_layers if group.layers is None else len(group.layers)
            kept += num_layers * sum(map(len, group.kept(length)))
        return 2 * kept * self.num_kv_heads * self.head_dim * element_size

    @property
    def is_gated(self) -> bool:
        """Do feed-forwards have a gate: two matrices up instead of one?"""
        return self.family == "llama"

    @property
    def ffn_width(self) -> int:
        """Sum of the intermediate sizes of all feed-forwards that a token passes in a layer."""
        experts = self.experts
        if experts is None:
            return self.ffn_size
        width = experts.per_token * experts.ffn_size + experts.shared_ffn_size
        return max(width, self.ffn_size) if experts.num_dense_layers else width

    @property
    def groups_by_layer(self) -> list[LayerGroup]:
        """The group of each layer."""
        whole = range(self.num_layers)
        found = {layer: group for group in self.layer_groups for layer in group.layers or whole}
        return [found[layer] for layer in whole]

    @property
    def num_parameters(self) -> int:
        """Weights and biases, embeddings included."""
        hidden = self.hidden_size
        vectors = self.num_layers * self.num_vectors
        if self.family == "llama":
            norms = (2 * self.num_layers + 1) * hidden
            return self.num_divisible_parameters + norms + vectors + self._num_router_parameters
        norms = 2 * (2 * self.num_layers + 1) * hidden
        biases = self.num_layers * (5 * hidden + self.ffn_size)
        positions = (self.max_model_len + 2) * hidden
        return self.num_divisible_parameters + norms + biases + positions + vectors

    @property
    def num_divisible_parameters(self) -> int:
        """The parameters that tensor parallelism divides: the layers' matrices and the token embeddings.

        Each expert is divided; the routers, which are small, are not.
        """
        hidden, attention_size = self.hidden_size, (self.num_heads + self.num_kv_heads) * self.head_dim
        embeddings = self.vocab_size * hidden * (1 if self.tied_embeddings else 2)
        matrices = (3 if self.is_gated else 2) * hidden
        return embeddings + self.num_layers * 2 * hidden * attention_size + matrices * self._all_ffn_sizes

    @property
    def _all_ffn_sizes(self) -> int:
        """The sizes of all feed-forwards of all layers, added up."""
        experts = self.experts
        if experts is None:
            return self.num_layers * self.ffn_size
        sparse = experts.number * experts.ffn_size + experts.shared_ffn_size
        dense = experts.num_dense_layers
        return dense * self.ffn_size + (self.num_layers - dense) * sparse

    @property
    def _num_router_parameters(self) -> int:
        experts = self.experts
        if experts is None:
            return 0
        return (self.num_layers - experts.num_dense_layers) * self.hidden_size * experts.number


def _opt(size: str, num_layers: int, hidden_size: int, num_heads: int) -> ModelShape:
    return ModelShape(
        name=f"opt-{size}",
        family="opt",
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden_size // num_heads,
        ffn_size=4 * hidden_size,
        vocab_size=50272,
        max_model_len=2048,
    )


def _llama(
    size: str,
    num_layers: int,
    hidden_size: int,
    num_heads: int,
    ffn_size: int,
    *,
    num_kv_heads: int | None = None,
    vocab_size: int = 32000,
    max_model_len: int = 2048,
) -> ModelShape:
    return ModelShape(
        name=f"llama-{size}",
        family="llama",
        num_layers=num_layers,
        hidden_size=hidden_size,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads or num_heads,
        head_dim=hidden_size // num_heads,
        ffn_size=ffn_size,
        vocab_size=vocab_size,
        max_model_len=max_model_len,
        tied_embeddings=False,
    )


OLDER_SHAPES = {
    shape.name: shape
    for shape in (
        _opt("125m", 12, 768, 12),
        _opt("1.3b", 24, 2048, 32),
        _opt("6.7b", 32, 4096, 32),
        _opt("13b", 40, 5120, 40),
        _opt("30b", 48, 7168, 56),
        _opt("66b", 64, 9216, 72),
        _opt("175b", 96, 12288, 96),
        _llama("7b", 32, 4096, 32, 11008),
        _llama("13b", 40, 5120, 40, 13824),
        _llama("2-7b", 32, 4096, 32, 11008, max_model_len=4096),
        _llama("2-13b", 40, 5120, 40, 13824, max_model_len=4096),
        _llama("2-70b", 80, 8192, 64, 28672, num_kv_heads=8, max_model_len=4096),
        _llama("3.1-8b", 32, 4096, 32, 14336, num_kv_heads=8, vocab_size=128256, max_model_len=131072),
        _llama("3.1-70b", 80, 8192, 64, 28672, num_kv_heads=8, vocab_size=128256, max_model_len=131072),
    )
}
"""OPT (Zhang et al. 2022, Table 1), LLaMA (Touvron et al. 2023, Table 2), Llama 2 and Llama 3.1 (the
`config.json` published with each model)."""
