"""Loads one rank's part of a model, tensor by tensor: no rank ever holds the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pagedbench.models.calls import ATTENTION, OWN_HEADS, register
from pagedbench.models.expert_files import ExpertFiles
from pagedbench.models.general import GeneralModel
from pagedbench.models.hugging_face import empty_module, fill
from pagedbench.models.loader import LoadedModel, Source, find_source, own_model
from pagedbench.models.sharding import (
    LLAMA_SPLITS,
    OPT_SPLITS,
    SUMS,
    Shard,
    ShardedWeights,
    Split,
    check_ranks,
)
from pagedbench.models.shared import (
    GatheredModule,
    SharedDecoder,
    SharedEmbeddingModule,
    SplitInputModule,
    SummedModule,
    share,
)
from pagedbench.models.weights import CheckpointWeights, RandomWeights
from pagedbench.simulation.config_shapes import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """Load the part of a model that this rank keeps; every rank calls it. Arguments as of `load_model`.

    Returns a model whose shape has this rank's heads and the whole vocabulary.

    Raises:
        ModelError: as of `load_model`, or the ranks cannot share the model.
    """
    source = find_source(name, load_format)
    splits = splits_of(source, ranks.num_ranks)
    shard = Shard(ranks.rank, ranks.num_ranks, source.shape, splits)
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
    """Refuse a model that so many ranks cannot share, before anything is loaded.

    Raises:
        ModelError: its numbers or its architecture cannot be divided.
    """
    splits_of(find_source(name, "dummy"), num_ranks)


def splits_of(source: Source, num_ranks: int) -> Mapping[str, Split]:
    """How the modules of a model are divided: of our own layers as they are made, else by its own plan.

    Raises:
        ModelError: transformers has no plan for the architecture, or one that is not computed here.
    """
    check_ranks(source.shape, num_ranks)
    if source.settings is not None:
        return OPT_SPLITS if source.shape.family == "opt" else LLAMA_SPLITS
    config = source.config
    plan = getattr(config, "base_model_tp_plan", None) or {}
    known = {split.value: split for split in Split if split is not Split.VOCABULARY}
    others = sorted(set(plan.values()) - set(known))
    if others or not {split.value for split in SUMS} & set(plan.values()):
        reason = f"divides modules as {others[0]}" if others else "divides no products"
        raise ModelError(
            f"{source.shape.name} cannot be shared by ranks: the tensor-parallel plan of transformers for "
            f"{config.model_type} {reason}; choose another model, or --tensor-parallel-size 1"
        )
    splits = {f"*.{pattern}": known[style] for pattern, style in plan.items()}
    return {**splits, "*embed_tokens": Split.VOCABULARY, "lm_head": Split.VOCABULARY}


def _module(config: Any, weights: ShardedWeights, ranks: Ranks, *, fills_norms: bool) -> Any:
    """A model of transformers with this rank's part of the weights, summed over ranks where they meet."""
    register()
    module, shard = empty_module(config, ATTENTION, weights.dtype), weights.shard
    for prefix, owner in module.named_modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            cut = shard.cut_of(f"{prefix}.{name}", 0)
            if cut is not None:
                sizes = list(parameter.shape)
                if shard.split_of(prefix) is Split.VOCABULARY and sizes[0] != shard.shape.vocab_size:
                    raise ModelError(f"{shard.shape.name} has {sizes[0]} rows of tokens in {prefix}")
                sizes[cut.dim] = shard.local_size(f"{prefix}.{name}", sizes[cut.dim])
                owner._parameters[name] = nn.Parameter(parameter.new_empty(sizes), requires_grad=False)
    fill(module, weights, fills_norms=fills_norms)
    _sum_over(module, shard, ranks)
    return module


def _sum_over(module: Any, shard: Shard, ranks: Ranks) -> None:
    for prefix, owner in list(module.named_modules()):
        for name, child in list(owner.named_children()):
            path = f"{prefix}.{name}".removeprefix(".")
            split = shard.split_of(path)
            if split is Split.GATHERED:
                setattr(owner, name, GatheredModule(child, ranks))
            elif split is Split.SPLIT_INPUT:
                setattr(owner, name, SplitInputModule(child, ranks))
                setattr(owner, OWN_HEADS, shard.heads)  # means nothing to a feed-forward
            elif split in (Split.ROWS, Split.SUMMED):
                setattr(owner, name, SummedModule(child, ranks))
            elif split is Split.VOCABULARY and isinstance(child, nn.Embedding):
                setattr(owner, name, SharedEmbeddingModule(child, shard.vocabulary, ranks))
