"""Several ranks emit the tokens of one process, which are those of Hugging Face, whatever is asked of them.

Sums over ranks are rounded in another order than one product, so scores differ in their last digits. All
tokens below are equal: no near-tie was met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from models.architectures import make_folder
from models.folders import hugging_face_greedy, make_llama_folder
from pagedbench.config import RunConfig
from pagedbench.memory.groups.hybrid import Hybrid
from pagedbench.memory.layer_group import equal_groups
from pagedbench.memory.paged import Paged
from pagedbench.memory.pool_spec import PoolSpec
from pagedbench.plan import make_plan
from pagedbench.plan import memory_of as memory_of_plan
from pagedbench.systems import SYSTEMS
from serving import (
    BEAMS,
    GREEDY,
    LENGTHS,
    MAX_LEN,
    ROOMY,
    SAMPLINGS,
    loaded_model,
    outputs_of,
    prompts_of,
    reference_beams,
    reference_greedy,
    requests_of,
    serve,
)
from test_tiers import requests_of as prefix_requests_of

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.memory.manager import KVManager
    from pagedbench.metrics.records import RunRecord
    from ranks import Cluster

pytestmark = pytest.mark.usefixtures("one_thread")

MIXED = (SAMPLINGS["3-cool"], BEAMS, GREEDY, SAMPLINGS["2-both"])
GENERAL = [(2, "qwen3"), (2, "gemma2"), (2, "cohere2"), (2, "phi"), (4, "mixtral"), (4, "olmo2"),
           (2, "phi3"), (4, "gpt_oss"), (2, "gpt2"), (4, "gpt_bigcode"), (2, "gpt_neox"), (2, "stablelm"),
           (2, "opt-350m")]  # fmt: skip
"""One for each way in which a layer is cut."""


def assert_same(record: RunRecord, expected: RunRecord) -> None:
    """Equal tokens; log-probabilities but for the rounding of sums."""
    assert outputs_of(record) == outputs_of(expected)
    for item, other in zip(record.requests, expected.requests, strict=True):
        ours, theirs = ([output.cumulative_logprob for output in each.outputs] for each in (item, other))
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)


def paged_memory(cluster: Cluster, folder: Path, system: str) -> KVManager | None:
    """The manager of a system that commits pages of this machine, each with the rows of one rank."""
    if not SYSTEMS[system].manager.commits_pages:
        return None
    config = RunConfig(
        system=system, model=str(folder), device="cpu", dtype="float32", kv_slots=ROOMY,
        max_model_len=MAX_LEN, tensor_parallel_size=cluster.ranks.layout.num_ranks,
    )  # fmt: skip
    return memory_of_plan(make_plan(config))


@pytest.mark.parametrize(
    ("cluster", "folder", "system"),
    [(2, "opt", system) for system in SYSTEMS]
    + [(4, "llama", system) for system, chosen in SYSTEMS.items() if chosen.attention == "paged"]
    + [(4, "llama", system) for system in ("orca-max", "fastertransformer")],
    indirect=["cluster", "folder"],
)
def test_every_system(cluster: Cluster, folder: Path, system: str) -> None:
    samplings = (GREEDY,) if system == "fastertransformer" else MIXED
    requests = requests_of(folder, *samplings)
    record = cluster.serve(folder, requests, system, memory=paged_memory(cluster, folder, system))
    assert_same(record, serve(folder, requests, system))
    for item, greedy, beams in zip(
        record.requests, reference_greedy(folder), reference_beams(folder, 4), strict=True
    ):
        sampling, tokens = item.request.sampling, [output.token_ids for output in item.outputs]
        if sampling.beam_width:
            assert tokens == [ids for ids, _ in beams]
        elif not sampling.temperature:
            assert tokens == [tuple(greedy)]


@pytest.mark.parametrize(
    ("cluster", "folder", "preemption", "chunked", "kv_dtype"),
    [
        (2, "llama", "recompute", None, "float32"),
        (4, "opt", "swap", None, "float32"),
        (2, "llama", "swap", 16, "float32"),
        (4, "opt", "swap", None, "int8"),
    ],
    indirect=["cluster", "folder"],
)
def test_on_a_tight_pool(
    cluster: Cluster, folder: Path, preemption: str, chunked: int | None, kv_dtype: str
) -> None:
    requests = requests_of(folder, SAMPLINGS["3-cool"], GREEDY, SAMPLINGS["2-both"])
    record = cluster.serve(folder, requests, "paged", 160, preemption, chunked=chunked, kv_dtype=kv_dtype)
    assert record.steps[f"preemptions_{preemption}"].sum() >= 1
    dtype = getattr(torch, kv_dtype)
    assert_same(record, serve(folder, requests, "paged", 160, preemption, chunked=chunked, kv_dtype=dtype))


@pytest.mark.parametrize(("cluster", "folder"), [(2, "llama")], indirect=True)
def test_prefixes_in_all_tiers(cluster: Cluster, folder: Path) -> None:
    requests = prefix_requests_of(folder)
    memory = Paged(128, 4, MAX_LEN, prefix_caching=True, host_cache_slots=40, disk_cache_slots=96)
    record = cluster.serve(folder, requests, preemption="swap", memory=memory)
    assert_same(record, serve(folder, requests, "orca-max"))
    counts = record.tier_counts
    assert counts is not None
    assert min(counts.host_hits, counts.disk_hits, counts.host_to_disk, counts.disk_to_host) >= 16


@pytest.mark.parametrize(("cluster", "name"), GENERAL, indirect=["cluster"])
def test_models_of_transformers_by_their_plan_or_ours(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    """Those with windows on a pool in layer groups."""
    folder = make_folder(tmp_path_factory.getbasetemp() / f"{name}-of-ranks", name)
    requests = requests_of(folder, GREEDY, SAMPLINGS["3-cool"])
    groups = cluster.load(folder).loaded.shape.layer_groups

    def memory() -> Hybrid | None:
        if len(groups) == 1 and groups[0].window is None:
            return None
        return Hybrid(PoolSpec(30 * 8, 8, MAX_LEN, layer_groups=equal_groups(groups)))

    record = cluster.serve(folder, requests, memory=memory(), preemption="swap")
    assert_same(record, serve(folder, requests, memory=memory(), preemption="swap", kinds=groups))
    greedy = hugging_face_greedy(folder, prompts_of(folder), [length for _, length in LENGTHS])
    assert outputs_of(record)[::2] == [[tuple(ids)] for ids in greedy[::2]]


@pytest.mark.parametrize("cluster", [4], indirect=True)
def test_fewer_heads_of_keys_than_ranks(cluster: Cluster, tmp_path: Path) -> None:
    """One of them is on every rank; and 201 tokens cannot be divided evenly."""
    folder = make_llama_folder(tmp_path / "one", num_kv_heads=1, vocab_size=201, head_dim=8)
    requests = requests_of(folder, *MIXED)
    assert_same(cluster.serve(folder, requests), serve(folder, requests))
    num_ranks = cluster.ranks.layout.num_ranks
    shape = cluster.load(folder).loaded.shape
    assert (shape.num_heads, shape.num_kv_heads, shape.vocab_size) == (4 // num_ranks, 1, 201)


@pytest.mark.parametrize(("cluster", "folder"), [(4, "opt")], indirect=True)
def test_what_an_iteration_costs(cluster: Cluster, folder: Path) -> None:
    requests = requests_of(folder, GREEDY) * 8
    requests = [type(item)(number, 0.0, item.prompt, item.sampling) for number, item in enumerate(requests)]
    record = cluster.serve(folder, requests, kv_slots=ROOMY)
    assert record.broadcast_bytes is not None
    assert len(record.broadcast_bytes) == len(record.steps)
    assert record.steps["running"].max() == 64
    assert record.broadcast_bytes.min() > 0
    assert record.broadcast_bytes.max() < 100_000
    assert serve(folder, requests).broadcast_bytes is None
    num_ranks, part = cluster.ranks.layout.num_ranks, cluster.load(folder)
    whole = loaded_model(folder).shape.kv_bytes_per_token(4) * ROOMY
    assert part.pools.cache.num_bytes * num_ranks == whole
