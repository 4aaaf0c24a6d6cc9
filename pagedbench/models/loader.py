"""Loads the model that a name stands for: a built-in shape, a Hugging Face folder, or a hub id."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pagedbench.models.llama import LLaMAModel, LLaMASettings
from pagedbench.models.opt import OPTModel, OPTSettings
from pagedbench.models.weights import CheckpointWeights, RandomWeights, Weights
from pagedbench.ops.select import select_ops
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES, ModelError, local_folder
from pagedbench.simulation.current_models import PUBLISHED
from pagedbench.simulation.shapes import ModelShape

if TYPE_CHECKING:
    from pagedbench.models.decoder import Decoder
    from pagedbench.ops.interface import Ops

LOAD_FORMATS = ("auto", "dummy")
FAMILIES = ("opt", "llama")
CONFIG_FILES = ["config.json"]
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"]
WEIGHT_FILES = ["*.safetensors", "*.safetensors.index.json"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to run.

    Attributes:
        name: as the user gave it.
        weights: "real" or "dummy (seeded random)".
        tokenizer_path: the folder of the model's own tokenizer, where it has one.
    """

    name: str
    model: Decoder
    shape: ModelShape
    weights: str
    tokenizer_path: Path | None


def load_model(
    name: str,
    *,
    load_format: str = "auto",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
    std: float = 0.02,
    ops: Ops | None = None,
) -> LoadedModel:
    """Build the model `name` and fill in its weights.

    Args:
        name: a built-in shape, a folder with config.json and *.safetensors, or a hub id.
        load_format: "auto" for real weights where there are any; "dummy" for seeded random ones.
        seed, std: seed and standard deviation of random weights.
        ops: the kernels; None: the fastest that run here.

    Raises:
        ModelError: the model is unknown, not supported, or cannot be read.
    """
    if load_format not in LOAD_FORMATS:
        raise ModelError(f"unknown load format {load_format!r}: use one of {', '.join(LOAD_FORMATS)}")
    device, dummy = torch.device(device), load_format == "dummy"
    ops = ops or select_ops(device.type, dtype=dtype)
    if name in BUILT_IN_SHAPES:
        _refuse_simulated_only(name)
        random = RandomWeights(seed, dtype, device, std)
        shape = BUILT_IN_SHAPES[name]
        return LoadedModel(name, _build(shape, None, random, ops), shape, random.description, None)
    folder = find_folder(name, with_weights=not dummy)
    config = read_config(folder)
    shape = shape_of(config, Path(name).name)
    weights: Weights = (
        RandomWeights(seed, dtype, device, std) if dummy else CheckpointWeights(folder, dtype, device)
    )
    model = _build(shape, config, weights, ops)
    return LoadedModel(name, model, shape, weights.description, _tokenizer_folder(folder))


def load_shape(name: str) -> ModelShape:
    """The dimensions of the model `name`, without its weights.

    Raises:
        ModelError: as for `load_model`.
    """
    if name in BUILT_IN_SHAPES:
        _refuse_simulated_only(name)
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


def shape_of(config: Any, name: str | None = None) -> ModelShape:
    """The dimensions in a transformers `OPTConfig` or `LlamaConfig`.

    Raises:
        ModelError: another architecture, or heads that do not fit together.
    """
    family, heads = config.model_type, config.num_attention_heads
    if family not in FAMILIES:
        raise ModelError(_unsupported(name or "the model", family))
    is_llama = family == "llama"
    shared, whole = (
        ("num_key_value_heads", heads) if is_llama else ("num_attention_heads", config.hidden_size)
    )
    divisor = getattr(config, shared)
    if heads < 1 or divisor < 1 or whole % divisor:
        raise ModelError(
            f"{name or 'the model'}: {shared} {divisor} in config.json does not divide {whole}: correct it"
        )
    return ModelShape(
        name=name or family,
        family=family,
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        num_heads=heads,
        num_kv_heads=config.num_key_value_heads if is_llama else heads,
        head_dim=config.head_dim if is_llama else config.hidden_size // heads,
        ffn_size=config.intermediate_size if is_llama else config.ffn_dim,
        vocab_size=config.vocab_size,
        max_model_len=config.max_position_embeddings,
        tied_embeddings=config.tie_word_embeddings,
    )


def find_folder(name: str, *, with_weights: bool) -> Path:
    """The local folder of a model that is not built in, downloaded from the hub if it has to be.

    Raises:
        ModelError: there is no such folder, or the hub cannot give it.
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
    if family not in FAMILIES:
        raise ModelError(_unsupported(str(folder), family))
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ModelError(
            f"{path} is not a valid {family} config: {' '.join(str(error).split())}"
        ) from error


def _build(shape: ModelShape, config: Any | None, weights: Weights, ops: Ops) -> Decoder:
    """Build the model of a shape; `config` None stands for its family's defaults."""
    if shape.family == "opt":
        return OPTModel(shape, OPTSettings() if config is None else OPTSettings.of(config), weights, ops)
    settings = LLaMASettings() if config is None else LLaMASettings.of(config)
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


def _refuse_simulated_only(name: str) -> None:
    if name in PUBLISHED:
        family = PUBLISHED[name].config["model_type"]
        raise ModelError(
            f"{name} is a {family} model, which runs on simulated devices only: give --device sim:h100"
        )


def _unsupported(name: str, family: str | None) -> str:
    what = f"{family} model" if family else "model of no named type"
    return f"{name} is a {what}, which is not supported: use a model of the type {' or '.join(FAMILIES)}"


def _tokenizer_folder(folder: Path) -> Path | None:
    names = {path.name for path in folder.iterdir()}
    return folder if "tokenizer.json" in names or {"vocab.json", "merges.txt"} <= names else None
