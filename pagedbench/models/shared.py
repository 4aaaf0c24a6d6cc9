"""Turning a rank's part of a model into one that all ranks compute: sums over ranks, one vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from pagedbench.models.decoder import Decoder

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.models.decoder import PreNormDecoder
    from pagedbench.models.layers import Attend, Embedding
    from pagedbench.models.sharding import Shard
    from pagedbench.ops.interface import Linear


class Ranks(Protocol):
    """Exchanges between ranks that compute the same model; all ranks call them with equal shapes."""

    rank: int
    num_ranks: int

    def sum(self, part: Tensor) -> Tensor:
        """The sum of all ranks' parts, in the order of the ranks; the same bits on every rank."""
        ...

    def gather(self, part: Tensor) -> list[Tensor]:
        """All ranks' parts in order, on rank 0; an empty list on the others."""
        ...


@dataclass(frozen=True, slots=True)
class SummedLinear:
    """A product whose weight's rows are divided among ranks. See `ops.interface.Linear`."""

    product: Linear
    ranks: Ranks

    @property
    def out_features(self) -> int:
        return self.product.out_features

    def __call__(self, x: Tensor) -> Tensor:
        return self.ranks.sum(self.product(x))

    def argmax(self, x: Tensor) -> Tensor:
        return self(x).argmax(dim=-1)


@dataclass(frozen=True, slots=True)
class SharedEmbedding:
    """An embedding of which each rank has some rows; exactly one rank adds to each token's sum."""

    own: Embedding
    tokens: range
    ranks: Ranks

    def __call__(self, token_ids: Tensor) -> Tensor:
        index = token_ids - self.tokens.start
        is_own = (index >= 0) & (index < len(self.tokens))  # [num_tokens]
        rows = self.own(index.masked_fill(~is_own, 0))  # [num_tokens, hidden_size]
        return self.ranks.sum(rows.masked_fill_(~is_own[..., None], 0))


class SummedModule(nn.Module):
    """A module of transformers whose result is summed over ranks."""

    def __init__(self, part: Any, ranks: Ranks) -> None:
        super().__init__()
        self.part = part
        self._ranks = ranks

    def forward(self, x: Tensor, *more: Any) -> Tensor:
        """[..., in_features] to [..., out_features]; experts also take the choice of the router."""
        return self._ranks.sum(self.part(x, *more))


class GatheredModule(nn.Module):
    """A module of transformers of which each rank computes some columns and gets all of them."""

    def __init__(self, part: Any, ranks: Ranks) -> None:
        super().__init__()
        self.part = part
        self._ranks = ranks

    def forward(self, x: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]"""
        own = self.part(x)  # [..., columns of this rank]
        size, rank = own.shape[-1], self._ranks.rank
        columns = own.new_zeros(*own.shape[:-1], self._ranks.num_ranks * size)
        columns[..., rank * size : (rank + 1) * size] = own
        return self._ranks.sum(columns)  # exact: the others add zeros


class SplitInputModule(SummedModule):
    """A module whose result is summed over ranks, and whose input may be the whole one."""

    def __init__(self, part: Any, ranks: Ranks) -> None:
        super().__init__(part, ranks)
        self._in_features: int = part.weight.shape[1]  # of this rank

    def forward(self, x: Tensor, *more: Any) -> Tensor:
        """[..., in_features] or [..., those of this rank] to [..., out_features]"""
        size, rank = self._in_features, self._ranks.rank
        own = x if x.shape[-1] == size else x[..., rank * size : (rank + 1) * size]
        return super().forward(own, *more)


class SharedEmbeddingModule(nn.Module):
    """The embedding of a transformers model over ranks."""

    def __init__(self, part: Any, tokens: range, ranks: Ranks) -> None:
        super().__init__()
        self.part = part
        self._shared = SharedEmbedding(part, tokens, ranks)

    def forward(self, token_ids: Tensor) -> Tensor:
        """int64 [..., num_tokens] to [..., num_tokens, hidden_size]"""
        return self._shared(token_ids)


class SharedDecoder(Decoder):
    """A model of which each rank has a part, also of the vocabulary; rank 0 gets all the scores."""

    is_capturable = False  # the sums are not recorded in graphs

    def __init__(self, part: Decoder, shard: Shard, ranks: Ranks) -> None:
        self.shape = replace(part.shape, vocab_size=shard.shape.vocab_size)
        self._part = part
        self._shard = shard
        self._ranks = ranks

    def forward(self, token_ids: Tensor, positions: Tensor, attend: Attend, rows: Tensor | None) -> Tensor:
        return self._part.forward(token_ids, positions, attend, rows)

    def logits(self, states: Tensor) -> Tensor:
        """See `Decoder.logits`; on ranks other than 0, the scores of their own tokens only."""
        own = self._part.logits(states)  # [num_rows, tokens of this rank]
        width = self._shard.vocabulary_per_rank
        padded = own.new_zeros(len(own), width)
        padded[:, : own.shape[1]] = own
        parts = self._ranks.gather(padded)
        return torch.cat(parts, dim=1)[:, : self.shape.vocab_size] if parts else own

    def greedy(self, states: Tensor) -> Tensor:
        """See `Decoder.greedy`; meaningless on ranks other than 0."""
        own = self._part.logits(states)  # [num_rows, tokens of this rank]
        best = own.argmax(dim=-1, keepdim=True)  # [num_rows, 1]
        found = torch.cat((own.gather(1, best).double(), best.double()), dim=1)  # [num_rows, 2]
        parts = self._ranks.gather(found)
        if not parts:
            return best[:, 0]
        scores, tokens = torch.stack(parts).unbind(dim=-1)  # [num_ranks, num_rows] each
        first = scores.argmax(dim=0, keepdim=True)  # among equals, the rank with the first tokens
        tokens = tokens.gather(0, first)[0] + first[0] * self._shard.vocabulary_per_rank
        return tokens.to(torch.int64)  # [num_rows]


def share(model: PreNormDecoder, shard: Shard, ranks: Ranks) -> Decoder:
    """Turn one rank's part of a model with our own layers into a model over all ranks."""
    model.embed_tokens = SharedEmbedding(model.embed_tokens, shard.vocabulary, ranks)
    model.layers = [
        replace(layer, out=SummedLinear(layer.out, ranks), down=SummedLinear(layer.down, ranks))
        for layer in model.layers
    ]
    return SharedDecoder(model, shard, ranks)
