"""Loads the model that a name stands for: a built-in shape, a Hugging Face folder, or a hub id."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pagedbench.config import ConfigError
from pagedbench.models.llama import LLaMAModel, LLaMASettings
from pagedbench.models.opt import OPTModel, OPTSettings
from pagedbench.models.weights import CheckpointWeights, RandomWeights, Weights
from pagedbench.ops.select import select_ops
from pagedbench.simulation.architectures import layer_kinds, other_cache
from pagedbench.simulation.config_shapes import (
    BUILT_IN_SHAPES,
    ModelError,
    local_folder,
    shape_of_config,
)
from pagedbench.simulation.current_models import PUBLISHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagedbench.models.decoder import Decoder, PreNormDecoder
    from pagedbench.ops.interface import Ops
    from pagedbench.simulation.shapes import ModelShape

LOAD_FORMATS = ("auto", "dummy")
CHANGING_ROPES = ("dynamic", "longrope")
"""Rotary embeddings whose frequencies change when a sequence outgrows what the model was trained for."""

CONFIG_FILES = ["config.json"]
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"]
WEIGHT_FILES = ["*.safetensors", "*.safetensors.index.json"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run.

    Attributes:
        name: the name that the user gave.
        weights: "real" or "dummy (seeded random)".
        tokenizer_path: the folder of the model's own tokenizer, where it has one.
    """

    name: str
    model: Decoder
    shape: ModelShape
    weights: str
    tokenizer_path: Path | None


@dataclass(frozen=True, slots=True)
class Source:
    """What a model is made from.

    Attributes:
        config: transformers' config; None for built-in shapes with layers of our own.
        settings: those of a model with layers of our own; None for all others.
        folder: folder of its files; None for built-in shapes.
        has_weights: are there real weights, and are they wanted?
    """

    shape: ModelShape
    config: Any
    settings: OPTSettings | LLaMASettings | None
    folder: Path | None = None
    has_weights: bool = False

    def weights(self, random: RandomWeights) -> Weights:
        """The weights of the folder, if wanted, or the random ones.

        Raises:
            ModelError: the folder's weights cannot be read.
        """
        if self.folder is None or not self.has_weights:
            return random
        return CheckpointWeights(self.folder, random.dtype, random.device)

    @property
    def tokenizer_path(self) -> Path | None:
        return None if self.folder is None else _tokenizer_folder(self.folder)


def load_model(
    name: str,
    *,
    load_format: str = "auto",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
    std: float = 0.02,
    ops: Ops | None = None,
    general: bool = False,
) -> LoadedModel:
    """Build the model `name` and fill in its weights.

    OPT and LLaMA have layers of our own, which are faster: residual and norm are one step, and the last
    layer computes only sampled rows. With transformers' code the same models decode 0.87 to 0.94 times as
    many tokens per second (32 sequences on 2 cores, OPT-125M and a LLaMA of 59 million parameters).

    Args:
        name: a built-in shape, a folder with config.json and *.safetensors, or a hub id.
        load_format: "auto" for real weights where there are any; "dummy" for seeded random ones.
        seed, std: seed and standard deviation of random weights.
        ops: the kernels; None: the fastest that run here.
        general: use transformers' modelling code for every architecture.

    Raises:
        ModelError: the model is unknown, not supported, or cannot be read.
    """
    device, source = torch.device(device), find_source(name, load_format)
    ops = ops or select_ops(device.type, dtype=dtype)
    weights, shape = source.weights(RandomWeights(seed, dtype, device, std)), source.shape
    if source.settings is not None and not general:
        model: Decoder = own_model(shape, source.settings, weights, ops)
    else:
        from pagedbench.models.general import general_model

        model = general_model(source.config, shape, source.folder or Path(name), weights, ops)
    return LoadedModel(name, model, shape, weights.description, source.tokenizer_path)


def find_source(name: str, load_format: str = "auto") -> Source:
    """What the model `name` is made from. Arguments and errors as for `load_model`."""
    if load_format not in LOAD_FORMATS:
        raise ModelError(f"unknown load format {load_format!r}: use one of {', '.join(LOAD_FORMATS)}")
    if name in BUILT_IN_SHAPES:
        return _built_in(BUILT_IN_SHAPES[name])
    has_weights = load_format != "dummy"
    folder = find_folder(name, with_weights=has_weights)
    config = read_config(folder)
    return Source(shape_of(config, Path(name).name), config, _settings_of(config), folder, has_weights)


def load_shape(name: str) -> ModelShape:
    """The dimensions of the model `name`, without its weights.

    Raises:
        ModelError: as for `load_model`.
    """
    if name in BUILT_IN_SHAPES:
        return BUILT_IN_SHAPES[name]
    return shape_of(read_config(find_folder(name, with_weights=False)), Path(name).name)


def tokenizer_of(name: str) -> str | None:
    """The folder of the tokenizer that comes with the model `name`; built-in shapes have none.

    Raises:
        ModelError: as for `load_model`.
    """
    if name in BUILT_IN_SHAPES:
        return None
    folder = _tokenizer_folder(find_folder(name, with_weights=False))
    return None if folder is None else str(folder)


def shape_of(config: Any, name: str) -> ModelShape:
    """The dimensions in a transformers config.

    Raises:
        ModelError: the architecture cannot run, or its numbers do not fit together.
    """
    text = config.get_text_config(decoder=True)
    fields = text.to_dict()
    reason = _obstacle(fields)
    if reason is not None:
        raise ModelError(f"{name} {reason}, which cannot run here: choose another decoder-only model")
    try:
        shape = shape_of_config(fields, Path(name) / "config.json")
    except ConfigError as error:
        raise ModelError(str(error)) from error
    return replace(shape, name=name, max_model_len=_max_len(fields, shape.max_model_len))


def _obstacle(fields: Mapping[str, Any]) -> str | None:
    """Why an architecture cannot run, in words; None if it can."""
    if fields.get("alibi"):
        return "adds the distance of tokens to its scores (ALiBi)"
    if "chunked_attention" in layer_kinds(fields):
        return "has layers that see a chunk of tokens instead of a window (chunked_attention)"
    return other_cache(fields)


def _max_len(fields: Mapping[str, Any], max_model_len: int) -> int:
    """The tokens up to which positions rotate alike in short and long sequences of one batch."""
    rope = fields.get("rope_parameters") or {}
    if rope.get("rope_type") not in CHANGING_ROPES:
        return max_model_len
    original = rope.get("original_max_position_embeddings") or max_model_len
    return min(int(original), max_model_len)


def find_folder(name: str, *, with_weights: bool) -> Path:
    """The local folder of a model that is not built in, downloaded from the hub if it has to be.

    Raises:
        ModelError: there is no such folder, and the hub cannot provide it.
    """
    return local_folder(name) or _download(name, with_weights=with_weights)


def read_config(folder: Path) -> Any:
    """The transformers config of a folder.

    Raises:
        ModelError: it cannot be read, or is of an architecture that is not supported.
    """
    path = folder / "config.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    family = fields.get("model_type") if isinstance(fields, dict) else None
    if family is None:
        raise ModelError(f"{path} names no model_type: give the folder of a Hugging Face model")
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ModelError(
            f"{path} is not a valid {family} config: {' '.join(str(error).split())}"
        ) from error


def _settings_of(config: Any) -> OPTSettings | LLaMASettings | None:
    """The settings of a model that has layers of our own; None for all others."""
    if config.model_type == "opt":
        return OPTSettings.of(config)
    return LLaMASettings.of(config) if config.model_type == "llama" else None


def _built_in(shape: ModelShape) -> Source:
    """The source of a built-in shape; transformers' code computes current models."""
    if shape.name not in PUBLISHED:
        return Source(shape, None, OPTSettings() if shape.family == "opt" else LLaMASettings())
    from transformers import AutoConfig

    fields = {**PUBLISHED[shape.name].config, "quantization_config": None}
    return Source(shape, AutoConfig.for_model(**fields), None)


def own_model(
    shape: ModelShape, settings: OPTSettings | LLaMASettings, weights: Weights, ops: Ops
) -> PreNormDecoder:
    """A model of our own layers."""
    if isinstance(settings, OPTSettings):
        return OPTModel(shape, settings, weights, ops)
    return LLaMAModel(shape, settings, weights, ops)


def _download(name: str, *, with_weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    wanted = CONFIG_FILES + TOKENIZER_FILES + (WEIGHT_FILES if with_weights else [])
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except GatedRepoError as error:
        raise ModelError(
            f"{name} needs a licence: accept it on its hub page and log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no public model {name}: check its name") from error
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise ModelError(
            f"cannot download {name} from the hub (no network?): {_without_network(name)}"
        ) from error


def _without_network(name: str) -> str:
    shape = name.rsplit("/", 1)[1].lower()
    if shape in BUILT_IN_SHAPES:
        return f"give a local folder, or --model {shape} --load-format dummy for random weights"
    return "give a local folder, or a built-in shape such as --model opt-125m --load-format dummy"


def _tokenizer_folder(folder: Path) -> Path | None:
    names = {path.name for path in folder.iterdir()}
    return folder if "tokenizer.json" in names or {"vocab.json", "merges.txt"} <= names else None
