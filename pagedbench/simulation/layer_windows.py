"""Which layers of a model see a window of tokens only, read from its config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.memory.layer_group import ALL_LAYERS, LayerGroup
from pagedbench.simulation.architectures import WINDOWED, layer_kinds

if TYPE_CHECKING:
    from collections.abc import Mapping


def layer_groups(
    config: Mapping[str, object], num_layers: int, max_model_len: int
) -> tuple[LayerGroup, ...]:
    """The layers by the tokens that they keep. A window that no sequence outgrows is none."""
    window, kinds = config.get("sliding_window"), layer_kinds(config)
    if not isinstance(window, int) or window >= max_model_len or config.get("use_sliding_window") is False:
        return (ALL_LAYERS,)
    windowed = tuple(i for i in range(num_layers) if not kinds or kinds[i % len(kinds)] in WINDOWED)
    full = tuple(i for i in range(num_layers) if i not in windowed)
    if not full:
        return (LayerGroup(window=window),)
    return (LayerGroup(full), LayerGroup(windowed, window)) if windowed else (ALL_LAYERS,)
