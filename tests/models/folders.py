"""Small random models as Hugging Face folders, and what transformers generates from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

STD = 0.3  # at the usual 0.02 a model repeats three tokens and proves little


def make_opt_folder(
    path: Path,
    seed: int = 0,
    *,
    num_layers: int = 2,
    hidden_size: int = 64,
    num_heads: int = 4,
    vocab_size: int = 200,
    max_model_len: int = 256,
    **settings: Any,
) -> Path:
    """An OPT with random weights; `settings` go to the config."""
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        num_hidden_layers=num_layers,
        hidden_size=hidden_size,
        num_attention_heads=num_heads,
        ffn_dim=3 * hidden_size,
        vocab_size=vocab_size,
        max_position_embeddings=max_model_len,
        **settings,
    )
    return _save(OPTForCausalLM(config), path, seed)


def make_llama_folder(
    path: Path,
    seed: int = 0,
    *,
    num_layers: int = 2,
    hidden_size: int = 64,
    num_heads: int = 4,
    num_kv_heads: int = 2,
    vocab_size: int = 200,
    max_model_len: int = 256,
    **settings: Any,
) -> Path:
    """A LLaMA with random weights; `settings` (tie_word_embeddings, head_dim, …) go to the config."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=num_layers,
        hidden_size=hidden_size,
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
        intermediate_size=2 * hidden_size + 12,
        vocab_size=vocab_size,
        max_position_embeddings=max_model_len,
        **settings,
    )
    return _save(LlamaForCausalLM(config), path, seed)


def load_hugging_face(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The folder's model in transformers."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).eval()


def hugging_face_greedy(
    folder: Path, prompts: Sequence[Sequence[int]], lens: Sequence[int]
) -> list[list[int]]:
    """The replies of transformers' `generate`, one prompt at a time, in float32."""
    model = load_hugging_face(folder)
    return [_greedy(model, prompt, length) for prompt, length in zip(prompts, lens, strict=True)]


def hugging_face_beams(
    folder: Path, prompts: Sequence[Sequence[int]], lens: Sequence[int], width: int
) -> list[list[tuple[tuple[int, ...], float]]]:
    """Every beam of transformers' beam search with its cumulative log-probability, the best first."""
    model = load_hugging_face(folder)
    return [_beams(model, prompt, length, width) for prompt, length in zip(prompts, lens, strict=True)]


def hugging_face_logits(folder: Path, prompt: Sequence[int]) -> torch.Tensor:
    """The logits at every position of a prompt, in float32.  # [len(prompt), vocab_size]"""
    with torch.no_grad():
        return load_hugging_face(folder)(torch.tensor([list(prompt)])).logits[0]


def _greedy(model: Any, prompt: Sequence[int], length: int) -> list[int]:
    input_ids = torch.tensor([list(prompt)])
    with torch.no_grad():
        ids = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            eos_token_id=None,
            pad_token_id=0,
            max_new_tokens=length,
            do_sample=False,
        )
    reply: list[int] = ids[0, len(prompt) :].tolist()
    assert len(reply) == length
    return reply


def _beams(
    model: Any, prompt: Sequence[int], length: int, width: int
) -> list[tuple[tuple[int, ...], float]]:
    input_ids = torch.tensor([list(prompt)])
    with torch.no_grad():
        found = model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            eos_token_id=None,
            pad_token_id=0,
            max_new_tokens=length,
            do_sample=False,
            num_beams=width,
            num_return_sequences=width,
            length_penalty=1.0,
            early_stopping=False,
            return_dict_in_generate=True,
            output_scores=True,
        )
    replies = found.sequences[:, len(prompt) :].tolist()
    scores = (found.sequences_scores * length).tolist()
    return [(tuple(reply), score) for reply, score in zip(replies, scores, strict=True)]


def _save(model: Any, path: Path, seed: int) -> Path:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(0.0, STD, generator=generator)
    model.save_pretrained(path)
    return path
