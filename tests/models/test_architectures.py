"""Every architecture emits the tokens of Hugging Face by way of the general path, whatever memory does."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

import pytest

from models.architectures import ARCHITECTURES, make_folder
from models.folders import hugging_face_beams, hugging_face_greedy
from pagedbench.backend import load_backend
from pagedbench.config import RunConfig
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

pytestmark = pytest.mark.usefixtures("one_thread", "general")

LENGTHS = [(5, 12), (17, 9), (1, 17), (30, 3), (16, 10), (24, 8)]
"""Prompts and replies around the edges of blocks, and longer than the windows, which are 9."""

ROOMY, TIGHT = 1024, 64


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


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_tokens_of_hugging_face(folders: Path, name: str) -> None:
    """Roomy and tight pools, blocks of 1 to 32, preempted by recomputing and by swapping."""
    folder = folder_of(folders, name)
    expected = greedy(folder)
    for block_size in (1, 32):
        assert tokens_of(serve(folder, ROOMY, block_size=block_size)) == expected
    for block_size, preemption in ((8, "recompute"), (4, "swap")):
        record = serve(folder, TIGHT, block_size=block_size, preemption=preemption)
        assert tokens_of(record) == expected
        assert record.steps[f"preemptions_{preemption}"].sum() >= 1


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
