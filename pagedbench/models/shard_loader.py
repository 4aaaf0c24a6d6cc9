"""Loads one rank's part of a model, tensor by tensor: no rank ever holds the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from pagedbench.models.calls import ATTENTION, OWN_HEADS, register
from pagedbench.models.expert_files import ExpertFiles
from pagedbench.models.general import GeneralModel
from pagedbench.models.hugging_face import empty_module, fill
from pagedbench.models.loader import LoadedModel, Source, find_source, own_model
from pagedbench.models.sharding import Shard, ShardedWeights, check_ranks
from pagedbench.models.sharding_plans import Split, plan_of
from pagedbench.models.shared import (
    GatheredModule,
    SharedDecoder,
    SharedEmbeddingModule,
    SplitInputModule,
    SummedModule,
    share,
)
from pagedbench.models.weights import CheckpointWeights, RandomWeights

if TYPE_CHECKING:
    from pagedbench.models.shared import Ranks
    from pagedbench.ops.interface import Ops


def load_shard(
    name: str,
    ranks: Ranks,
    *,
    load_format: str,
    dtype: torch.dtype,
    device: torch.device | str,
    seed: int,
    ops: Ops,
    std: float = 0.02,
) -> LoadedModel:
    """Load the part of a model that this rank keeps; every rank calls it. Arguments as for `load_model`.

    Returns a model whose shape has this rank's heads and the whole vocabulary.

    Raises:
        ModelError: as by `load_model`, or the ranks cannot share the model.
    """
    source = find_source(name, load_format)
    shard = shard_of(source, ranks.rank, ranks.num_ranks)
    whole = source.weights(RandomWeights(seed, dtype, torch.device(device), std))
    weights = ShardedWeights(ExpertFiles(whole) if isinstance(whole, CheckpointWeights) else whole, shard)
    if source.settings is not None:
        model = own_model(shard.local_shape, source.settings, weights, ops)
        shared = share(model, shard, ranks)
    else:
        module = _module(source.config, weights, ranks, fills_norms=isinstance(whole, RandomWeights))
        shared = SharedDecoder(GeneralModel(module, shard.local_shape, ops), shard, ranks)
    return LoadedModel(name, shared, shared.shape, whole.description, source.tokenizer_path)


def check_shards(name: str, num_ranks: int) -> None:
    """Refuse a model that `num_ranks` ranks cannot share, before anything is loaded.

    Raises:
        ModelError: its dimensions or its architecture cannot be divided.
    """
    shard_of(find_source(name, "dummy"), 0, num_ranks)


def shard_of(source: Source, rank: int, num_ranks: int) -> Shard:
    """What a rank keeps of a model.

    Raises:
        ModelError: as by `check_ranks` and `plan_of`.
    """
    check_ranks(source.shape, num_ranks)
    return Shard(rank, num_ranks, source.shape, plan_of(source))


def _module(config: Any, weights: ShardedWeights, ranks: Ranks, *, fills_norms: bool) -> Any:
    """A model of transformers with this rank's part of the weights, and sums over ranks where needed."""
    register()
    module, shard = empty_module(config, ATTENTION, weights.dtype), weights.shard
    for prefix, owner in module.named_modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            sizes = shard.part_of(f"{prefix}.{name}", parameter.shape)
            if sizes != list(parameter.shape):
                owner._parameters[name] = nn.Parameter(parameter.new_empty(sizes), requires_grad=False)
        _count_anew(owner, shard)
    fill(module, weights, fills_norms=fills_norms)
    _sum_over(module, shard, ranks)
    return module


def _count_anew(module: Any, shard: Shard) -> None:
    """Set the numbers of heads by which modules split their products to those of this rank."""
    if isinstance(module, Conv1D):
        module.nf = module.weight.shape[1]
    if hasattr(module, "layer_idx"):
        for name, count in shard.plan.counts.items():
            if hasattr(module, name):
                setattr(module, name, count(shard.local_shape))


def _sum_over(module: Any, shard: Shard, ranks: Ranks) -> None:
    for prefix, owner in list(module.named_modules()):
        for name, child in list(owner.named_children()):
            path = f"{prefix}.{name}".removeprefix(".")
            split = shard.plan.split_of(path)
            if split is Split.GATHERED:
                setattr(owner, name, GatheredModule(child, ranks))
            elif split is Split.SPLIT_INPUT:
                setattr(owner, name, SplitInputModule(child, ranks))
                setattr(owner, OWN_HEADS, shard.heads)  # means nothing to a feed-forward
            elif split in (Split.ROWS, Split.SUMMED):
                setattr(owner, name, SummedModule(child, ranks))
            elif split is Split.VOCABULARY and isinstance(child, nn.Embedding):
                setattr(owner, name, SharedEmbeddingModule(child, shard.vocabulary, ranks))
