"""Keys and values of 8 bits: the same tokens from every system, and those of a model with such a cache."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import DynamicCache

from models.folders import load_hugging_face
from pagedbench.execution.attention import BatchAttention, layers_of
from pagedbench.execution.kv_cache import KVCache
from pagedbench.execution.step_inputs import InputTensors
from pagedbench.memory.paged import Paged
from pagedbench.ops.addresses import Extents
from pagedbench.ops.quantized import dequantized, quantized
from pagedbench.ops.select import select_ops
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.systems import SYSTEMS
from serving import (
    BEAMS,
    BLOCK_SIZE,
    GREEDY,
    LENGTHS,
    MAX_LEN,
    MODELS,
    ROOMY,
    SAMPLINGS,
    loaded_model,
    outputs_of,
    prompts_of,
    requests_of,
    serve,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*past_key_values.*:FutureWarning"),  # its name in all versions
]

TIGHT = 96
"""Slots for the longest requests and little more."""


class Int8Cache(DynamicCache):
    """Hugging Face's cache, which gives back what 8 bits leave of keys and values."""

    def update(self, key_states: Tensor, value_states: Tensor, *rest: Any, **options: Any) -> Any:
        sides = (dequantized(quantized(side)) for side in (key_states, value_states))
        return super().update(*sides, *rest, **options)


@cache
def expected(folder: Path) -> list[list[tuple[int, ...]]]:
    """The greedy replies of Hugging Face's model, a token at a time."""
    model, replies = load_hugging_face(folder), []
    for prompt, (_, length) in zip(prompts_of(folder), LENGTHS, strict=True):
        past, tokens = Int8Cache(config=model.config), list(prompt)
        for _ in range(length):
            ids, seen = torch.tensor([tokens[past.get_seq_length() :]]), torch.ones(1, len(tokens)).long()
            with torch.no_grad():
                logits = model(ids, attention_mask=seen, past_key_values=past, use_cache=True).logits
            tokens.append(int(logits[0, -1].argmax()))
        replies.append([tuple(tokens[len(prompt) :])])
    return replies


def served(folder: Path, *samplings: SamplingParams, **options: Any) -> list[list[tuple[int, ...]]]:
    requests = requests_of(folder, *samplings, gap=options.pop("gap", 0.0))
    return outputs_of(serve(folder, requests, kv_dtype=torch.int8, **options))


@pytest.mark.parametrize("folder", MODELS, indirect=True)
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("kv_slots", [ROOMY, TIGHT])
def test_every_system_emits_the_tokens_of_such_a_cache(folder: Path, system: str, kv_slots: int) -> None:
    kv_slots = max(kv_slots, 3 * MAX_LEN if system == "fastertransformer" else 0)
    assert served(folder, GREEDY, system=system, kv_slots=kv_slots) == expected(folder)


@pytest.mark.parametrize("folder", ["opt", "llama"], indirect=True)
@pytest.mark.parametrize("block_size", [1, 4, 32])
def test_blocks_of_any_size(folder: Path, block_size: int) -> None:
    assert served(folder, GREEDY, memory=Paged(ROOMY, block_size, MAX_LEN)) == expected(folder)


@pytest.mark.parametrize("folder", ["opt", "llama"], indirect=True)
@pytest.mark.parametrize("preemption", ["swap", "recompute"])
@pytest.mark.parametrize("chunked", [None, 11])
def test_preempted_requests_and_parts_of_prompts(
    folder: Path, preemption: str, chunked: int | None
) -> None:
    record = serve(
        folder,
        requests_of(folder, GREEDY),
        kv_slots=TIGHT,
        preemption=preemption,
        chunked=chunked,
        kv_dtype=torch.int8,
    )
    assert record.steps[f"preemptions_{preemption}"].sum() > 0
    assert outputs_of(record) == expected(folder)


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
@pytest.mark.parametrize("kv_slots", [ROOMY, 136])
def test_samples_and_beams(folder: Path, kv_slots: int) -> None:
    methods = (SAMPLINGS["3-cool"], BEAMS)
    alone = served(folder, *methods, system="orca-max", kv_slots=2 * ROOMY)
    assert served(folder, *methods, kv_slots=kv_slots) == alone


@pytest.mark.parametrize("folder", ["opt"], indirect=True)
def test_cached_prefixes_and_tiers(folder: Path) -> None:
    """Prompts come back from the device, the host and the file with their scales."""
    requests = [
        Request(i + len(LENGTHS) * turn, 9.0 * turn, request.prompt, request.sampling)
        for turn in range(3)
        for i, request in enumerate(requests_of(folder, GREEDY))
    ]
    memory = Paged(
        TIGHT, BLOCK_SIZE, MAX_LEN, prefix_caching=True, host_cache_slots=64, disk_cache_slots=512
    )
    record = serve(folder, requests, memory=memory, kv_dtype=torch.int8)
    assert outputs_of(record) == 3 * expected(folder)
    assert record.tier_counts is not None
    assert min(record.tier_counts.host_hits, record.tier_counts.disk_hits) > 0


@pytest.mark.parametrize("folder", ["stories"], indirect=True)
def test_a_trained_model_stays_what_it_is(folder: Path) -> None:
    """Perplexity within 1 % of float32's, on stories that the model tells at a temperature of 1."""
    stories = [[1, *told] for (told,) in outputs_of(serve_stories(folder))]
    wide, narrow = (perplexity_and_choices(folder, stories, dtype) for dtype in (torch.float32, torch.int8))
    equal = sum(int((a == b).sum()) for a, b in zip(wide[1], narrow[1], strict=True))
    share = equal / sum(len(choices) for choices in wide[1])
    print(
        f"perplexity {wide[0]:.4f} in float32, {narrow[0]:.4f} in int8; {share:.2%} of greedy tokens equal"
    )
    assert abs(narrow[0] / wide[0] - 1) < 0.01
    assert 0.97 < share < 1


def serve_stories(folder: Path) -> Any:
    requests = [
        Request(i, 0.0, Prompt(1, token_ids=(1,)), SamplingParams(400, temperature=1.0, seed=i))
        for i in range(4)
    ]
    return serve(folder, requests, memory=Paged(ROOMY, BLOCK_SIZE, 512))


def perplexity_and_choices(
    folder: Path, texts: list[list[int]], dtype: torch.dtype
) -> tuple[float, list[Tensor]]:
    """Perplexity of the texts, each read as one prompt, and the likeliest token at each position."""
    loaded, losses, choices = loaded_model(folder), [], []
    for text in texts:
        n, ids = len(text), torch.tensor(text)
        inputs = InputTensors(
            ids,
            torch.arange(n),
            torch.arange(n),
            torch.tensor([n], dtype=torch.int32),
            Extents(torch.tensor([0])),
            num_decodes=0,
            query_starts=torch.tensor([0, n], dtype=torch.int32),
        )
        attend = BatchAttention(
            layers_of(KVCache(loaded.shape, n, dtype, "cpu"), select_ops("cpu")), inputs
        )
        with torch.inference_mode():
            logits = loaded.model.logits(loaded.model.forward(ids, inputs.positions, attend, None))
        losses.append(torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none"))
        choices.append(logits.argmax(dim=-1))
    return float(torch.cat(losses).mean().exp()), choices
