"""Where transformers' models come from: a folder with weights, or a config and seeded random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pagedbench.models.norms import formula_of
from pagedbench.simulation.config_shapes import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.models.weights import RandomWeights, Weights


def random_module(config: Any, attention: str, weights: RandomWeights) -> Any:
    """The model of a config, with random weights; norms are the identity.

    Raises:
        ModelError: as by `empty_module`.
    """
    return fill(empty_module(config, attention, weights.dtype), weights, fills_norms=True)


def empty_module(config: Any, attention: str, dtype: torch.dtype) -> Any:
    """The model of a config, whose tensors have no memory yet.

    Raises:
        ModelError: transformers has no causal language model for the config.
    """
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    except Exception as error:  # each architecture's code has its own
        raise ModelError(
            f"transformers cannot make a {config.model_type} model that takes our attention "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}): choose another model"
        ) from error


def fill(module: Any, weights: Weights, *, fills_norms: bool) -> Any:
    """Give an empty module its weights.

    Args:
        fills_norms: make norms the identity instead of reading them.

    Raises:
        ModelError: a tensor cannot be read.
    """
    module.to_empty(device=weights.device)
    module.tie_weights()
    with torch.no_grad():
        _fill(module, weights, fills_norms)
        module.initialize_weights()  # tensors that no checkpoint has: frequencies of rotary embeddings
    return module.requires_grad_(False).eval()


def _fill(module: Any, weights: Weights, fills_norms: bool) -> None:
    filled: set[int] = set()
    for prefix, owner in module.named_modules():
        norm = formula_of(owner)
        is_norm = norm is not None or "Norm" in type(owner).__name__
        for name, parameter in owner.named_parameters(recurse=False):
            if id(parameter) in filled:
                continue  # tied
            filled.add(id(parameter))
            parameter._is_hf_initialized = True
            if not (is_norm and fills_norms):
                weights.read(f"{prefix}.{name}", parameter)
            elif name == "weight":
                parameter.fill_(1.0 - (0.0 if norm is None else norm.offset))
            else:
                parameter.zero_()
        for name, buffer in owner.named_buffers(recurse=False):
            if name not in owner._non_persistent_buffers_set:  # it is in checkpoints, as parameters are
                buffer._is_hf_initialized = True
                weights.read(f"{prefix}.{name}", buffer)


def checkpoint_module(folder: Path, attention: str, dtype: torch.dtype, device: torch.device) -> Any:
    """The model in a folder, with its weights.

    Raises:
        ModelError: they cannot be read, or do not fit the config.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it would stand between the lines of a report
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attention,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise ModelError(
            f"transformers cannot load {folder}: {' '.join(str(error).split())}; download the model again, "
            "or give --load-format dummy for seeded random weights"
        ) from error
    module, info = loaded
    lacking = sorted(info["missing_keys"]) + sorted(str(key[0]) for key in info["mismatched_keys"])
    if lacking:
        raise ModelError(
            f"the weights in {folder} lack the tensor {lacking[0]} that config.json asks for, or have "
            "another shape of it"
        )
    return module.to(device).requires_grad_(False).eval()
