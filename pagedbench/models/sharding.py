"""Sharding: which part of every tensor of a model a rank keeps (Megatron-LM, arXiv:1909.08053)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pagedbench.models.weights import Cut, Weights
from pagedbench.simulation.config_shapes import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from pagedbench.simulation.shapes import ModelShape


class Split(Enum):
    """How the weight of a module, [out_features, in_features], is divided."""

    COLUMNS = "colwise"  # by out_features: each rank computes some columns of the product
    ROWS = "rowwise"  # by in_features: the products of all ranks are summed
    WHOLE = "replicated_with_grad_allreduce"  # not: every rank has all of it
    VOCABULARY = "vocabulary"  # by tokens
    PACKED_COLUMNS = "packed_colwise"  # of experts, [number, 2 x out_features, in_features]: of both halves
    GATHERED = "colwise_gather_output"  # by out_features, and every rank gets the whole product
    SPLIT_INPUT = "rowwise_split_input"  # by in_features, of which every rank may have all
    SUMMED = "moe_tp_experts"  # not: what the module computes is summed over ranks


SUMS = (Split.ROWS, Split.SPLIT_INPUT)
"""Where the products of all ranks are summed."""

KEY_VALUE = ("k_proj", "v_proj")
"""Modules whose columns are the heads of keys and values, which may be fewer than the ranks."""

LLAMA_SPLITS = {
    **dict.fromkeys(("*.q_proj", "*.k_proj", "*.v_proj", "*.gate_proj", "*.up_proj"), Split.COLUMNS),
    **dict.fromkeys(("*.o_proj", "*.down_proj"), Split.ROWS),
    **dict.fromkeys(("model.embed_tokens", "lm_head"), Split.VOCABULARY),
}
OPT_SPLITS = {
    **dict.fromkeys(("*.q_proj", "*.k_proj", "*.v_proj", "*.fc1"), Split.COLUMNS),
    **dict.fromkeys(("*.out_proj", "*.fc2"), Split.ROWS),
    **dict.fromkeys(("model.decoder.embed_tokens", "lm_head"), Split.VOCABULARY),
}


@dataclass(frozen=True, slots=True)
class Shard:
    """What rank number `rank` of `num_ranks` keeps of a model.

    ::

        rank     heads of queries    heads of keys and values    feed-forward    vocabulary
         0       0 1 2 3 . . . .     0 0 1 1 . . . .             ####....        ####....
         1       . . . . 4 5 6 7     . . . . 2 2 3 3             ....####        ....####

    Of fewer heads of keys and values than ranks, several ranks keep the same one.

    Attributes:
        shape: of the whole model.
        splits: how modules are divided, by patterns of their names; all others are whole.
    """

    rank: int
    num_ranks: int
    shape: ModelShape
    splits: Mapping[str, Split]

    @property
    def local_shape(self) -> ModelShape:
        """The dimensions of the part."""
        shape, number = self.shape, self.num_ranks
        return replace(
            shape,
            num_heads=shape.num_heads // number,
            num_kv_heads=max(shape.num_kv_heads // number, 1),
            ffn_size=shape.ffn_size // number,
            vocab_size=len(self.vocabulary),
        )

    @property
    def vocabulary(self) -> range:
        """The tokens whose rows it keeps; the last rank may have fewer than the others."""
        size, per_rank = self.shape.vocab_size, self.vocabulary_per_rank
        return range(min(self.rank * per_rank, size), min((self.rank + 1) * per_rank, size))

    @property
    def heads(self) -> tuple[slice, slice]:
        """Its heads of queries, and those of keys and values."""
        local, number = self.local_shape, self.shape.num_kv_heads
        first = self.rank * number // self.num_ranks
        queries = slice(self.rank * local.num_heads, (self.rank + 1) * local.num_heads)
        return queries, slice(first, first + local.num_kv_heads)

    @property
    def vocabulary_per_rank(self) -> int:
        return -(-self.shape.vocab_size // self.num_ranks)

    def split_of(self, module: str) -> Split:
        """How the module of this name is divided."""
        found = (split for pattern, split in self.splits.items() if fnmatchcase(module, pattern))
        return next(found, Split.WHOLE)

    def cut_of(self, name: str, size: int) -> Cut | None:
        """The part of a parameter, of which `size` rows or columns are kept; None: all of it."""
        module, _, kind = name.rpartition(".")
        split = self.split_of(module)
        if split is Split.SUMMED:
            return self._cut_of_experts(name, size)
        if split is Split.VOCABULARY:
            return Cut(0, self.vocabulary.start, self.shape.vocab_size)
        if split is Split.WHOLE or (split in SUMS and kind == "bias"):
            return None
        dim = 1 if split in SUMS else 0
        if split is Split.COLUMNS and module.endswith(KEY_VALUE):
            head, number = self.shape.head_dim, self.shape.num_kv_heads
            return Cut(dim, self.rank * number // self.num_ranks * head, number * head)
        return Cut(dim, self.rank * size, self.num_ranks * size)

    def _cut_of_experts(self, name: str, size: int) -> Cut | None:
        """Of tensors that have all experts; of the packed ones the part of the first half."""
        split = self.split_of(name)
        if split is Split.WHOLE:
            return None
        return Cut(1 if split is Split.PACKED_COLUMNS else 2, self.rank * size, self.num_ranks * size)

    def local_size(self, name: str, full: int) -> int:
        """Rows or columns that are kept of a parameter that is cut and has `full` of them.

        Raises:
            ModelError: the ranks cannot have equally many.
        """
        module = name.rpartition(".")[0]
        if self.split_of(module) is Split.VOCABULARY:
            return len(self.vocabulary)
        if self.split_of(module) is Split.COLUMNS and module.endswith(KEY_VALUE):
            return self.local_shape.num_kv_heads * self.shape.head_dim
        if full % (self.num_ranks * (2 if self.split_of(name) is Split.PACKED_COLUMNS else 1)):
            raise ModelError(
                f"{self.num_ranks} ranks cannot share the {full} numbers of {name} in {self.shape.name}"
            )
        return full // self.num_ranks

    def is_added_elsewhere(self, name: str) -> bool:
        """Is it the bias of a sum over ranks, which the first rank alone adds?"""
        module, _, kind = name.rpartition(".")
        return kind == "bias" and self.split_of(module) in SUMS and self.rank > 0


class ShardedWeights(Weights):
    """The tensors of a model, of which a rank reads its part."""

    def __init__(self, whole: Weights, shard: Shard) -> None:
        super().__init__(whole.dtype, whole.device)
        self.description = whole.description
        self.shard = shard
        self._whole = whole

    def read(self, name: str, out: Tensor, cut: Cut | None = None) -> None:
        assert cut is None, "a part of a part"
        if self.shard.is_added_elsewhere(name):
            out.zero_()
            return
        cut = self.shard.cut_of(name, 0)
        if cut is None:
            self._whole.read(name, out)
            return
        size = out.shape[cut.dim]
        if self.shard.split_of(name) is Split.PACKED_COLUMNS:
            size //= 2
            for number, half in enumerate(out.split(size, cut.dim)):  # [experts, size, in_features]
                start = number * self.shard.num_ranks * size + self.shard.rank * size
                self._whole.read(name, half, Cut(cut.dim, start, 2 * self.shard.num_ranks * size))
        else:
            self._whole.read(name, out, self.shard.cut_of(name, size))


def check_ranks(shape: ModelShape, num_ranks: int) -> None:
    """Refuse numbers of ranks that cannot share a model.

    Raises:
        ModelError: heads or feed-forward cannot be divided.
    """
    heads, kv_heads = shape.num_heads, shape.num_kv_heads
    problem = None
    if heads % num_ranks:
        problem = f"the {heads} heads"
    elif kv_heads % num_ranks and num_ranks % kv_heads:
        problem = f"the {kv_heads} heads of keys and values"
    elif shape.ffn_size % num_ranks:
        problem = f"the {shape.ffn_size} numbers between the matrices of a feed-forward"
    if problem is not None:
        raise ModelError(
            f"--tensor-parallel-size {num_ranks} does not divide {problem} of {shape.name}: choose another"
        )
