"""Which layers of a model see only a window of tokens, read from its config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.memory.layer_group import ALL_LAYERS, LayerGroup
from pagedbench.simulation.architectures import SLIDING, layer_kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    Config = Mapping[str, object]

PATTERNS = {"gemma2": 2, "gpt_oss": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4}
"""Model type -> every n-th layer sees all tokens, unless the config says otherwise."""


def layer_groups(config: Config, num_layers: int, max_model_len: int) -> tuple[LayerGroup, ...]:
    """The layers by the tokens that they keep. A window that no sequence outgrows does not count."""
    window = config.get("sliding_window")
    if not isinstance(window, int) or window >= max_model_len or config.get("use_sliding_window") is False:
        return (ALL_LAYERS,)
    windowed = _windowed(config, num_layers)
    full = tuple(layer for layer in range(num_layers) if layer not in windowed)
    if not full:
        return (LayerGroup(window=window),)
    return (LayerGroup(full), LayerGroup(windowed, window)) if windowed else (ALL_LAYERS,)


def _windowed(config: Config, num_layers: int) -> tuple[int, ...]:
    """The layers with windows: those listed, all but every n-th, those above a number, or all."""
    kinds, first = layer_kinds(config), config.get("max_window_layers")
    pattern = config.get("sliding_window_pattern") or PATTERNS.get(str(config.get("model_type")))
    layers = range(num_layers)
    if kinds:
        return tuple(layer for layer in layers if kinds[layer % len(kinds)] in SLIDING)
    if isinstance(pattern, int):
        return tuple(layer for layer in layers if (layer + 1) % pattern)
    if isinstance(first, int) and config.get("use_sliding_window"):
        return tuple(layer for layer in layers if layer >= first)
    return tuple(layers)
