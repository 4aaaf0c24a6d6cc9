"""Every architecture emits the tokens of Hugging Face by way of the general path, whatever memory does."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models.architectures import ARCHITECTURES, make_folder
from models.folders import (
    hugging_face_beams,
    hugging_face_greedy,
    hugging_face_logits,
    load_hugging_face,
)
from models.test_logits import turned
from pagedbench.backend import load_backend
from pagedbench.config import RunConfig
from pagedbench.memory.layer_group import has_windows
from pagedbench.models import loader
from pagedbench.models.general import GeneralModel
from pagedbench.plan import make_plan
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.systems import SYSTEMS
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.metrics.records import RunRecord
    from pagedbench.simulation.shapes import ModelShape

pytestmark = pytest.mark.usefixtures("one_thread", "general")

LENGTHS = [(5, 12), (17, 9), (1, 17), (30, 3), (16, 10), (24, 8)]
"""Prompts and replies around the edges of blocks, and longer than the windows, which are 9."""

ROOMY, TIGHT, TIGHT_WITH_WINDOWS = 1024, 64, 40


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPT and LLaMA run by transformers' code, too."""
    monkeypatch.setattr(loader, "load_model", partial(loader.load_model, general=True))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("architectures")


@cache
def folder_of(root: Path, name: str) -> Path:
    return make_folder(root / name, name)


def prompts_of(lengths: list[tuple[int, int]] = LENGTHS, common: int = 0) -> list[tuple[int, ...]]:
    """Random tokens, the first `common` of them the same in all."""
    start = tuple(Prompt(common, seed=99).ids(200).tolist()) if common else ()
    return [start + tuple(Prompt(p, seed=i).ids(200).tolist()) for i, (p, _) in enumerate(lengths)]


@cache
def greedy(folder: Path, common: int = 0) -> list[list[int]]:
    return hugging_face_greedy(folder, prompts_of(common=common), [o for _, o in LENGTHS])


def serve(folder: Path, kv_slots: int, sampling: dict[str, Any] | None = None, common: int = 0, **options):
    """Run the requests, all at once; whatever owns memory returns it."""
    config = RunConfig(
        model=str(folder), device="cpu", dtype="float32", kv_slots=kv_slots, max_model_len=64, warmup=0,
        **options,
    )  # fmt: skip
    plan = make_plan(config)
    backend = load_backend(plan)
    assert isinstance(backend.loaded.model, GeneralModel)
    requests = [
        Request(i, 0.0, Prompt(len(ids), token_ids=ids), SamplingParams(o, **(sampling or {})))
        for i, (ids, (_, o)) in enumerate(zip(prompts_of(common=common), LENGTHS, strict=True))
    ]
    record = backend.make_engine(plan).run(FixedArrivals(requests))
    assert record.owned_at_end == 0
    return record


def tokens_of(record: RunRecord) -> list[list[int]]:
    return [list(item.outputs[0].token_ids) for item in record.requests]


class DenseAttention:
    """Attention of one whole prompt by its definition, with the windows of the layers."""

    decodes = None

    def __init__(self, shape: ModelShape) -> None:
        self._groups = shape.groups_by_layer

    def __call__(self, layer, query, key, value, rotation, rows=None, params=None) -> torch.Tensor:
        if rotation is not None:
            query, key = turned(query, rotation), turned(key, rotation)
        group_size, length = query.shape[1] // key.shape[1], len(query)
        key, value = key.repeat_interleave(group_size, 1), value.repeat_interleave(group_size, 1)
        scores = torch.einsum("qhd,khd->hqk", query.float(), key.float()) * params.scale
        if params.softcap is not None:
            scores = params.softcap * torch.tanh(scores / params.softcap)
        distance = torch.arange(length)[:, None] - torch.arange(length)
        is_seen = (distance >= 0) & (distance < (self._groups[layer].window or length))
        scores = scores.masked_fill(~is_seen, float("-inf"))
        if params.sink_logits is not None:
            sinks = params.sink_logits[:, None, None].expand(-1, length, 1)
            scores = torch.cat((scores, sinks), dim=-1)
        weights = scores.softmax(-1)[..., :length]
        return torch.einsum("hqk,khd->qhd", weights, value.float()).to(query.dtype)


def our_logits(folder: Path, prompt: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """At every position of a prompt.  # [len(prompt), vocab_size]"""
    model = loader.load_model(str(folder), dtype=dtype).model
    with torch.inference_mode():
        attend, positions = DenseAttention(model.shape), torch.arange(len(prompt))
        states = model.forward(torch.tensor(prompt), positions, attend, None)
        assert torch.equal(model.greedy(states), model.logits(states).argmax(-1))
        return model.logits(states)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_logits_of_hugging_face(folders: Path, name: str) -> None:
    """In float32 but for the order of sums; in bfloat16 as near to float32 as transformers itself."""
    folder, prompt = folder_of(folders, name), prompts_of()[3]
    expected = hugging_face_logits(folder, prompt)
    ours = our_logits(folder, prompt, torch.float32)
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()
    with torch.no_grad():
        theirs = load_hugging_face(folder, torch.bfloat16)(torch.tensor([prompt])).logits[0]
    ours = our_logits(folder, prompt, torch.bfloat16)
    assert (ours - expected).abs().mean() < 2 * (theirs - expected).abs().mean()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_tokens_of_hugging_face(folders: Path, name: str) -> None:
    """Roomy and tight pools, blocks of 4 to 32, preempted by recomputing and by swapping.

    Where all layers have windows, replies hardly grow, and may not be preempted.
    """
    folder = folder_of(folders, name)
    expected, groups = greedy(folder), loader.load_shape(str(folder)).layer_groups
    tight, grows = TIGHT_WITH_WINDOWS if has_windows(groups) else TIGHT, None in {g.window for g in groups}
    assert tokens_of(serve(folder, ROOMY, block_size=32)) == expected
    for block_size, preemption in ((8, "recompute"), (4, "swap")):
        record = serve(folder, tight, block_size=block_size, preemption=preemption)
        assert tokens_of(record) == expected
        assert (record.steps[f"preemptions_{preemption}"].sum() > 0) >= grows


@pytest.mark.parametrize("system", [name for name in SYSTEMS if name != "paged"])
@pytest.mark.parametrize("name", ["gemma2", "gpt_oss", "gpt_neox"])
def test_every_system(folders: Path, name: str, system: str) -> None:
    """Caps, sinks and windows over extents, and in batches that are padded."""
    folder = folder_of(folders, name)
    assert tokens_of(serve(folder, 256, system=system, block_size=8)) == greedy(folder)


@pytest.mark.parametrize("name", ["mistral", "gemma3_text", "gpt_oss"])
def test_prompts_in_chunks(folders: Path, name: str) -> None:
    folder = folder_of(folders, name)
    options = {"prefill": "chunked", "max_num_batched_tokens": 11, "block_size": 8}
    assert tokens_of(serve(folder, 256, **options)) == greedy(folder)


@pytest.mark.parametrize("prefix_caching", [False, True])
@pytest.mark.parametrize("name", ["mistral", "gemma3_text", "gpt_oss"])
def test_prefix_caching_with_windows(folders: Path, name: str, prefix_caching: bool) -> None:
    """Beginnings of 21 tokens, longer than a window."""
    folder = folder_of(folders, name)
    options = {"prefix_caching": prefix_caching, "max_num_seqs": 2, "block_size": 4}
    record = serve(folder, 256, common=21, **options)
    assert tokens_of(record) == greedy(folder, 21)
    assert (record.steps["prefix_hits"].sum() > 0) == prefix_caching


@pytest.mark.parametrize("name", ["gpt_neox", "qwen3", "gemma2", "gpt_oss"])
def test_the_beams_of_hugging_face(folders: Path, name: str) -> None:
    folder, width = folder_of(folders, name), 3
    expected = hugging_face_beams(folder, prompts_of(), [o for _, o in LENGTHS], width)
    for kv_slots in (ROOMY, 128):
        record = serve(folder, kv_slots, {"beam_width": width}, block_size=4)
        found = [[beam.token_ids for beam in item.outputs] for item in record.requests]
        assert found == [[tokens for tokens, _ in beams] for beams in expected]
