"""Experts: feed-forwards of which a router chooses a few per token, and how a config describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Config = Mapping[str, object]

NUMBERS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_top_k", "moe_k")
SIZES = ("moe_intermediate_size", "expert_intermediate_size", "ffn_hidden_size", "intermediate_size")
SHARED_SIZES = ("shared_expert_intermediate_size", "shared_intermediate_size")
SHARED_NUMBERS = ("n_shared_experts", "num_shared_experts", "num_shared_expert")

UNREAD = ("interleave_moe_layer_step", "moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval",
          "moe_layers", "moe_layers_enum")  # fmt: skip
"""Fields of single architectures that say which layers have experts."""


@dataclass(frozen=True, slots=True)
class Experts:
    """A router sends each token through `per_token` of `number` feed-forwards of `ffn_size`.

    Attributes:
        shared_ffn_size: size of a feed-forward that every token also passes; 0: there is none.
        num_dense_layers: layers that have one feed-forward instead.
    """

    number: int
    per_token: int
    ffn_size: int
    shared_ffn_size: int = 0
    num_dense_layers: int = 0


def experts_of(config: Config, num_layers: int, path: Path) -> Experts | None:
    """The experts in the fields of a config.json; None: every layer has one feed-forward.

    Raises:
        ConfigError: their number, size or layers are missing, or given by fields unknown here.
    """
    inner = config.get("ffn_config")
    config = {**config, **inner} if isinstance(inner, dict) else config
    number = next((config[name] for name in NUMBERS if config.get(name) is not None), 0)
    if isinstance(number, list):
        raise ConfigError(
            f"{path}: the number of experts differs from layer to layer, which is not simulated: choose a "
            "model whose layers are equal"
        )
    if not isinstance(number, int) or number < 2:
        return None
    size = _count(config, SIZES, path)
    experts = Experts(
        number,
        _count(config, PER_TOKEN, path),
        size,
        _shared_size(config, size, path),
        _num_dense_layers(config, num_layers, path),
    )
    if experts.per_token > number or experts.num_dense_layers >= num_layers:
        raise ConfigError(
            f"{path}: {experts.per_token} of {number} experts per token in all but "
            f"{experts.num_dense_layers} of {num_layers} layers is impossible: correct it"
        )
    return experts


def _shared_size(config: Config, size: int, path: Path) -> int:
    if any(config.get(name) for name in SHARED_SIZES):
        return _count(config, SHARED_SIZES, path)
    if any(config.get(name) for name in SHARED_NUMBERS):
        return size * _count(config, SHARED_NUMBERS, path)
    return 0


def _num_dense_layers(config: Config, num_layers: int, path: Path) -> int:
    """Layers without experts: the first ones, some by name, or all but every second, third …"""
    unread = next((name for name in UNREAD if config.get(name)), None)
    if unread is not None:
        raise ConfigError(
            f"{path} says with {unread} which layers have experts, which is not simulated: choose another "
            "model"
        )
    kinds = config.get("mlp_layer_types")
    if isinstance(kinds, list):
        return sum(kind == "dense" for kind in kinds)
    first = _whole(config, "first_k_dense_replace", 0, path)
    step = _whole(config, "decoder_sparse_step", 1, path)
    named, flags = (config.get(name) for name in ("mlp_only_layers", "moe_layer_freq"))
    every = 1 if isinstance(flags, list) else _whole(config, "moe_layer_freq", 1, path)

    def is_dense(layer: int) -> bool:
        is_named = isinstance(named, list) and layer in named
        is_unflagged = isinstance(flags, list) and not flags[layer]
        return layer < first or (layer + 1) % step != 0 or layer % every != 0 or is_named or is_unflagged

    return sum(map(is_dense, range(num_layers)))


def _whole(config: Config, name: str, default: int, path: Path) -> int:
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or value < default:
        raise ConfigError(
            f"{path}: {name} {value!r} is not a whole number of {default} or more: correct it"
        )
    return value


def _count(config: Config, names: tuple[str, ...], path: Path) -> int:
    found = next((config[name] for name in names if config.get(name) is not None), None)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ConfigError(f"{path} has experts but no whole number {names[0]!r}: give a complete config")
    return found
