"""Shapes of models by name: built in, or read from a Hugging Face config.json, without torch."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.simulation.architectures import refuse_other_caches, simplification, stated_kv_heads
from pagedbench.simulation.current_models import PUBLISHED
from pagedbench.simulation.experts import experts_of
from pagedbench.simulation.layer_vectors import num_vectors
from pagedbench.simulation.layer_windows import layer_groups
from pagedbench.simulation.shapes import OLDER_SHAPES, ModelShape

if TYPE_CHECKING:
    from collections.abc import Mapping

PLAIN_TYPES = (
    "opt", "gpt2", "gptj", "gpt_neo", "gpt_neox", "gpt_bigcode", "bloom", "codegen", "falcon", "mpt", "phi",
    "starcoder2", "xglm",
)  # fmt: skip
"""Model types whose feed-forward has no gate: one matrix up and one down."""

OWN_HEAD_DIM_TYPES = ("gemma", "gemma2", "gemma3", "gemma3_text", "qwen3", "helium", "glm", "glm4")
"""Model types whose head size is not `hidden_size / num_attention_heads`."""

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


class ModelError(ConfigError):
    """A model cannot be loaded; the message says what to change."""


def local_folder(name: str) -> Path | None:
    """The folder of a model that is not built in; None for a hub id. Looks only at names.

    Raises:
        ModelError: it is neither.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return folder
        raise ModelError(f"{name} has no config.json: give the folder of a Hugging Face model")
    if HUB_ID.fullmatch(name):
        return None
    close = difflib.get_close_matches(name.lower(), BUILT_IN_SHAPES, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ModelError(
        f"unknown model {name!r}{hint}: use {', '.join(BUILT_IN_SHAPES)}, a folder with a Hugging Face "
        "model, or a hub id such as facebook/opt-125m"
    )


def shape_for_simulation(name: str) -> ModelShape:
    """The shape of a built-in model, or of a folder with a config.json.

    Raises:
        ConfigError: there is no such model, or the config describes something that is not simulated.
    """
    if name in BUILT_IN_SHAPES:
        return BUILT_IN_SHAPES[name]
    path = Path(name).expanduser() / "config.json"
    if not path.is_file():
        raise ConfigError(
            f"unknown model {name!r} for a simulated device: use {', '.join(BUILT_IN_SHAPES)}, or a local "
            "folder with a Hugging Face config.json"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} is not a model's config: it should hold one JSON object")
    inner = config.get("text_config")
    return shape_of_config({**config, **inner} if isinstance(inner, dict) else config, path)


def shape_of_config(config: Mapping[str, object], path: Path) -> ModelShape:
    """The shape in the fields of a config.json.

    Raises:
        ConfigError: a field is missing or wrong, or something in the model is not simulated.
    """
    refuse_other_caches(config, path)
    hidden = _count(config, path, "hidden_size", "n_embd", "d_model")
    heads = _count(config, path, "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
    family = "opt" if str(config.get("model_type")) in PLAIN_TYPES else "llama"
    max_model_len = _count(
        config, path, "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", default=2048
    )
    num_layers = _count(config, path, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    groups = layer_groups(config, num_layers, max_model_len)
    shape = ModelShape(
        name=path.parent.resolve().name,
        family=family,
        num_layers=num_layers,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=_count(
            {"num_key_value_heads": stated_kv_heads(config, heads)}, path, "num_key_value_heads"
        ),
        head_dim=_count(
            config, path, "head_dim", "kv_channels", default=_usual_head_dim(config, hidden, heads)
        ),
        ffn_size=_count(
            config, path, "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", default=4 * hidden
        ),
        vocab_size=_count(config, path, "vocab_size"),
        max_model_len=max_model_len,
        tied_embeddings=bool(config.get("tie_word_embeddings", family == "opt")),
        note=simplification(config, max_model_len, groups),
        layer_groups=groups,
        experts=experts_of(config, num_layers, path),
    )
    if hidden % heads and shape.head_dim == hidden // heads:
        raise ConfigError(f"{path}: {heads} heads do not divide the hidden size {hidden}: correct it")
    if shape.num_heads % shape.num_kv_heads:
        raise ConfigError(f"{path}: {shape.num_kv_heads} kv heads do not divide {heads} heads: correct it")
    return replace(shape, num_vectors=num_vectors(config, shape))


def _usual_head_dim(config: Mapping[str, object], hidden: int, heads: int) -> int | None:
    """The head size if a config does not state it; None: its model type has another default."""
    return None if config.get("model_type") in OWN_HEAD_DIM_TYPES else max(hidden // heads, 1)


def _count(config: Mapping[str, object], path: Path, *names: str, default: int | None = None) -> int:
    """The number under the first of the names that the config has."""
    found = next((config[name] for name in names if config.get(name) is not None), default)
    if isinstance(found, list):
        raise ConfigError(
            f"{path}: {names[0]} differs from layer to layer, which is not simulated: choose a model whose "
            "layers are equal"
        )
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ConfigError(
            f"{path} has no whole number {names[0]!r}: give the config of a decoder-only model"
        )
    return found


BUILT_IN_SHAPES = OLDER_SHAPES | {
    model.name: shape_of_config(model.config, Path(model.name) / "config.json")
    for model in PUBLISHED.values()
}
"""Shapes known by name."""
