"""Sharding: which part of every tensor of a model a rank keeps (Megatron-LM, arXiv:1909.08053)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pagedbench.models.sharding_plans import SUMS, ShardingPlan, Split
from pagedbench.models.weights import Cut, Weights
from pagedbench.simulation.config_shapes import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pagedbench.simulation.shapes import ModelShape


KEY_VALUE = ("k_proj", "v_proj")
"""Modules whose columns are the heads of keys and values, of which there may be fewer than ranks."""


class Piece(NamedTuple):
    """A part of a tensor that a rank keeps: `size` rows or columns."""

    cut: Cut
    size: int


@dataclass(frozen=True, slots=True)
class Shard:
    """What rank number `rank` of `num_ranks` keeps of a model.

    ::

        rank     heads of queries    heads of keys and values    feed-forward    vocabulary
         0       0 1 2 3 . . . .     0 0 1 1 . . . .             ####....        ####....
         1       . . . . 4 5 6 7     . . . . 2 2 3 3             ....####        ....####

    If there are fewer heads of keys and values than ranks, several ranks keep the same one.

    Attributes:
        shape: the shape of the whole model.
        plan: how modules are divided.
    """

    rank: int
    num_ranks: int
    shape: ModelShape
    plan: ShardingPlan

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

    def pieces_of(self, name: str, part: Sequence[int]) -> list[Piece]:
        """The pieces that are kept of a parameter, in order; an empty list: all of it.

        Args:
            part: the dimensions of what is kept.
        """
        split = self.plan.split_of_parameter(name)
        dim = self._dim_of(name, len(part))
        if dim is None:
            return []
        size, rank, number = part[dim], self.rank, self.num_ranks
        if split is Split.VOCABULARY:
            return [Piece(Cut(dim, self.vocabulary.start, self.shape.vocab_size), size)]
        if split is Split.FUSED_COLUMNS:
            return self._fused_pieces(dim)
        if split is Split.PACKED_COLUMNS:
            half = size // 2
            starts = (rank * half, (number + rank) * half)
            return [Piece(Cut(dim, start, number * size), half) for start in starts]
        if self._has_keys_or_values(name):
            head = self.shape.head_dim
            return [Piece(Cut(dim, self.heads[1].start * head, self.shape.num_kv_heads * head), size)]
        return [Piece(Cut(dim, rank * size, number * size), size)]

    def _fused_pieces(self, dim: int) -> list[Piece]:
        """This rank's heads of queries, keys and values, which are stacked in one tensor."""
        (queries, keys), shape = self.heads, self.shape
        num_heads, num_kv_heads, head = shape.num_heads, shape.num_kv_heads, shape.head_dim
        full = (num_heads + 2 * num_kv_heads) * head
        sides = ((0, queries), (num_heads, keys), (num_heads + num_kv_heads, keys))
        return [
            Piece(Cut(dim, (first + own.start) * head, full), (own.stop - own.start) * head)
            for first, own in sides
        ]

    def _dim_of(self, name: str, num_dims: int) -> int | None:
        """The dimension along which a parameter is divided; None: it is not divided."""
        split, is_bias = self.plan.split_of_parameter(name), name.endswith("bias")
        if split in (Split.WHOLE, Split.SUMMED) or (split in SUMS and is_bias):
            return None
        if split is Split.VOCABULARY:
            return 0
        if is_bias or num_dims == 1:
            return num_dims - 1
        is_last = (split in SUMS) != self.plan.is_transposed(name)
        return num_dims - 1 if is_last else num_dims - 2  # experts have a dimension before these

    def _has_keys_or_values(self, name: str) -> bool:
        split = self.plan.split_of_parameter(name)
        return split is Split.COLUMNS and name.rpartition(".")[0].endswith(KEY_VALUE)

    def part_of(self, name: str, full: Sequence[int]) -> list[int]:
        """The dimensions of what is kept of a parameter with these dimensions.

        Raises:
            ModelError: the dimension cannot be divided equally.
        """
        part, dim = list(full), self._dim_of(name, len(full))
        if dim is None:
            return part
        split, shape = self.plan.split_of_parameter(name), self.local_shape
        if split is Split.VOCABULARY:
            if full[dim] != self.shape.vocab_size:
                raise ModelError(f"{self.shape.name} has {full[dim]} rows of tokens in {name}")
            part[dim] = len(self.vocabulary)
        elif split is Split.FUSED_COLUMNS:
            part[dim] = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
        elif self._has_keys_or_values(name):
            part[dim] = shape.num_kv_heads * shape.head_dim
        elif full[dim] % (self.num_ranks * (2 if split is Split.PACKED_COLUMNS else 1)):
            raise ModelError(
                f"{self.num_ranks} ranks cannot share the {full[dim]} numbers of {name} in "
                f"{self.shape.name}"
            )
        else:
            part[dim] = full[dim] // self.num_ranks
        return part

    def is_added_elsewhere(self, name: str) -> bool:
        """Is it the bias of a sum over ranks, which the first rank alone adds?"""
        return self.rank > 0 and name.endswith("bias") and self.plan.split_of_parameter(name) in SUMS


class ShardedWeights(Weights):
    """The weights of a model, of which a rank reads its part."""

    def __init__(self, whole: Weights, shard: Shard) -> None:
        super().__init__(whole.dtype, whole.device)
        self.description = whole.description
        self.shard = shard
        self._whole = whole

    def read(self, name: str, out: Tensor, cut: Cut | None = None) -> None:
        assert cut is None, "a part cannot be cut from a part"
        if self.shard.is_added_elsewhere(name):
            out.zero_()
            return
        pieces = self.shard.pieces_of(name, out.shape)
        if not pieces:
            self._whole.read(name, out)
            return
        sizes = [piece.size for piece in pieces]
        for piece, part in zip(pieces, out.split(sizes, pieces[0].cut.dim), strict=True):
            self._whole.read(name, part, piece.cut)


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
        problem = f"the feed-forward size of {shape.ffn_size}"
    if problem is not None:
        raise ModelError(
            f"--tensor-parallel-size {num_ranks} does not divide {problem} of {shape.name}: choose another"
        )
