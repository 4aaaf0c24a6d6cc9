"""ModelShape: the dimensions of a decoder, for memory plans and cost models; and the built-in shapes."""

from __future__ import annotations

from dataclasses import dataclass

from pagedbench.memory.layer_group import ALL_LAYERS, LayerGroup

SCALE_SIZE = 4
"""Bytes of a scale, a float32: one for each head of a token's keys, and of its values, of 8 bits."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The dimensions of a decoder-only transformer of the OPT or LLaMA family.

    Attributes:
        note: the parts that are simulated as simpler ones, in words; empty if there are none.
        layer_groups: the layers by the tokens that they keep; each layer is in one group.
    """

    name: str
    family: str  # "opt" or "llama"
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

    def kv_bytes_per_token(self, element_size: int, num_ranks: int = 1, *, scale_size: int = 0) -> int:
        """Bytes of one token's keys and values in all layers (800 KiB for OPT-13B in 16 bit).

        On all ranks together: a head is never divided, so ranks beyond the number of KV heads repeat them.

        Args:
            scale_size: bytes beside the elements of each head.
        """
        heads = num_ranks * -(-self.num_kv_heads // num_ranks)
        return 2 * self.num_layers * heads * (self.head_dim * element_size + scale_size)

    @property
    def num_parameters(self) -> int:
        """Weights and biases, embeddings included."""
        hidden = self.hidden_size
        if self.family == "llama":
            norms = (2 * self.num_layers + 1) * hidden
            return self.num_divisible_parameters + norms
        norms = 2 * (2 * self.num_layers + 1) * hidden
        biases = self.num_layers * (5 * hidden + self.ffn_size)
        positions = (self.max_model_len + 2) * hidden
        return self.num_divisible_parameters + norms + biases + positions

    @property
    def num_divisible_parameters(self) -> int:
        """The parameters that tensor parallelism divides: the layers' matrices and the token embeddings."""
        hidden, attention_size = self.hidden_size, (self.num_heads + self.num_kv_heads) * self.head_dim
        matrices = 3 if self.family == "llama" else 2
        layer = 2 * hidden * attention_size + matrices * hidden * self.ffn_size
        embeddings = self.vocab_size * hidden * (1 if self.tied_embeddings else 2)
        return embeddings + self.num_layers * layer


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


BUILT_IN_SHAPES = {
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
"""Shapes known by name: OPT (Zhang et al. 2022, Table 1), LLaMA (Touvron et al. 2023, Table 2), Llama 2
and Llama 3.1 (the `config.json` published with each model)."""
