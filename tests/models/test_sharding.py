"""The parts of all ranks are the whole; what cannot be divided is refused by name."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.architectures import SIZES
from models.folders import make_llama_folder, make_opt_folder
from pagedbench.models import loader
from pagedbench.models.calls import ATTENTION, register
from pagedbench.models.hugging_face import empty_module
from pagedbench.models.shard_loader import check_shards, load_shard, shard_of
from pagedbench.models.sharding import Shard, ShardedWeights, check_ranks
from pagedbench.models.sharding_plans import LLAMA
from pagedbench.models.weights import RandomWeights
from pagedbench.ops.select import select_ops
from pagedbench.simulation.config_shapes import ModelError
from pagedbench.simulation.shapes import ModelShape

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def shape_of(heads: int, kv_heads: int, head_dim: int, ffn: int, vocab: int) -> ModelShape:
    return ModelShape("m", "llama", 2, 24, heads, kv_heads, head_dim, ffn, vocab, 64)


@settings(max_examples=60)
@given(
    num_ranks=st.sampled_from([1, 2, 3, 4, 8]),
    groups=st.integers(1, 4),
    kv=st.sampled_from([1, 2, 4, 8, 12]),
    head_dim=st.sampled_from([2, 4]),
    ffn=st.integers(1, 4),
    vocab=st.integers(64, 90),
)
def test_parts_make_the_whole(
    num_ranks: int, groups: int, kv: int, head_dim: int, ffn: int, vocab: int
) -> None:
    shape = shape_of(kv * groups, kv, head_dim, ffn * num_ranks, vocab)
    try:
        check_ranks(shape, num_ranks)
    except ModelError:
        return
    random = RandomWeights(0, torch.float32, CPU)
    shards = [Shard(rank, num_ranks, shape, LLAMA) for rank in range(num_ranks)]

    def parts(name: str, *whole: int, dim: int) -> list[torch.Tensor]:
        found = []
        for shard in shards:
            size = shard.part_of(name, whole)
            assert size[:dim] + size[dim + 1 :] == [*whole[:dim], *whole[dim + 1 :]]
            found.append(ShardedWeights(random, shard).tensor(name, *size))
        return found

    for name, rows, columns, dim in (
        ("x.q_proj.weight", shape.num_heads * head_dim, 24, 0),
        ("x.o_proj.weight", 24, shape.num_heads * head_dim, 1),
        ("x.up_proj.weight", shape.ffn_size, 24, 0),
        ("x.down_proj.weight", 24, shape.ffn_size, 1),
        ("lm_head.weight", vocab, 24, 0),
    ):
        whole = random.tensor(name, rows, columns)
        assert torch.equal(torch.cat(parts(name, rows, columns, dim=dim), dim=dim), whole), name
    heads = random.tensor("x.k_proj.weight", kv * head_dim, 24).unflatten(0, (kv, head_dim))
    found = parts("x.k_proj.weight", kv * head_dim, 24, dim=0)
    for shard, part in zip(shards, found, strict=True):
        first = shard.rank * shape.num_heads // num_ranks // groups  # of the queries of this rank
        own = heads[first : first + shard.local_shape.num_kv_heads]
        assert torch.equal(part.unflatten(0, (-1, head_dim)), own)
    norms = [ShardedWeights(random, shard).tensor("x.norm.weight", 24) for shard in shards]
    assert all(torch.equal(norm, norms[0]) for norm in norms)


class Threads:
    """Ranks that are threads of this process."""

    def __init__(self, num_ranks: int) -> None:
        self.num_ranks = num_ranks
        self.barrier = threading.Barrier(num_ranks)
        self.parts: list[torch.Tensor | None] = [None] * num_ranks

    def run(self, function) -> list[object]:
        results: list[object] = [None] * self.num_ranks

        def work(rank: int) -> None:
            with torch.inference_mode():
                results[rank] = function(OneOfThreads(self, rank))

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.num_ranks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


class OneOfThreads:
    def __init__(self, threads: Threads, rank: int) -> None:
        self._threads = threads
        self.rank, self.num_ranks = rank, threads.num_ranks

    def _all(self, part: torch.Tensor) -> list[torch.Tensor]:
        self._threads.parts[self.rank] = part
        self._threads.barrier.wait()
        parts = list(self._threads.parts)
        self._threads.barrier.wait()
        return parts  # type: ignore[return-value]

    def sum(self, part: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._all(part)).sum(dim=0)

    def gather(self, part: torch.Tensor) -> list[torch.Tensor]:
        parts = self._all(part)
        return parts if self.rank == 0 else []


@pytest.mark.parametrize("family", ["opt", "llama"])
@pytest.mark.parametrize("num_ranks", [2, 4])
def test_each_rank_reads_its_share(tmp_path: Path, family: str, num_ranks: int, monkeypatch) -> None:
    """Weights of 1 / ranks within 10 %: norms, positions and biases are on all of them."""
    sizes = {"num_layers": 2, "hidden_size": 128, "vocab_size": 2000, "max_model_len": 16}
    make = make_opt_folder if family == "opt" else make_llama_folder
    settings = {} if family == "opt" else {"num_kv_heads": 4}
    folder = make(tmp_path / "model", **sizes, **settings)
    read: dict[int, int] = {}
    largest: dict[int, int] = {}
    before = ShardedWeights.read

    def count(self, name, out, cut=None):
        rank = self.shard.rank
        read[rank] = read.get(rank, 0) + out.numel()
        largest[rank] = max(largest.get(rank, 0), out.numel())
        before(self, name, out, cut)

    monkeypatch.setattr(ShardedWeights, "read", count)
    options = {"load_format": "auto", "dtype": torch.float32, "device": "cpu", "seed": 0}
    ops = select_ops("cpu", "reference")
    models = Threads(num_ranks).run(lambda ranks: load_shard(str(folder), ranks, ops=ops, **options))
    assert all(model is not None for model in models)
    from safetensors.torch import load_file

    whole = {name: tensor.numel() for name, tensor in load_file(folder / "model.safetensors").items()}
    for rank in range(num_ranks):
        assert read[rank] == pytest.approx(sum(whole.values()) / num_ranks, rel=0.1)
        assert largest[rank] <= max(whole.values()) / num_ranks


@pytest.mark.parametrize("name", ["gpt2", "gpt_bigcode", "gpt_neox", "gpt_oss", "granitemoe", "stablelm"])
def test_weights_of_models_as_large_as_usual(name: str) -> None:
    """1 / ranks within 10 %, by plans of ours; nothing large is whole."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(name)
    shard = shard_of(loader.Source(loader.shape_of(config, name), config, None), 1, 2)
    register()
    module = empty_module(config, ATTENTION, torch.bfloat16)
    whole = {name: parameter.numel() for name, parameter in module.named_parameters()}
    parts = {name: shard.part_of(name, item.shape) for name, item in module.named_parameters()}
    sizes = {name: math.prod(part) for name, part in parts.items()}
    assert sum(sizes.values()) == pytest.approx(sum(whole.values()) / 2, rel=0.1)
    assert max(sizes.values()) <= 1.001 * max(whole.values()) / 2
    for parameter, part in parts.items():
        pieces = shard.pieces_of(parameter, part)
        assert sum(piece.size for piece in pieces) in (0, *part)


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("bitnet", {}, "the tensor-parallel plan of transformers for bitnet divides no products"),
        ("stablelm", {"qk_layernorm": True}, "each of its heads has its own norm"),
    ],
)
def test_what_cannot_be_divided_is_named(
    tmp_path: Path, name: str, changes: dict[str, bool], sentence: str
) -> None:
    from transformers import AutoConfig

    AutoConfig.for_model(name, **SIZES, **changes).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=sentence):
        check_shards(str(tmp_path), 2)


def test_a_plan_that_is_not_computed_here_is_named() -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model("qwen2", **SIZES)
    config.base_model_tp_plan = {"layers.*.self_attn.o_proj": "rowwise", "layers.*.mlp": "by_chance"}
    with pytest.raises(ModelError, match="for qwen2 divides modules as by_chance"):
        shard_of(loader.Source(loader.shape_of(config, "m"), config, None), 0, 2)


@pytest.mark.parametrize(
    ("shape", "num_ranks", "what"),
    [
        (shape_of(6, 6, 4, 8, 64), 4, "the 6 heads of m"),
        (shape_of(12, 3, 4, 8, 64), 2, "the 3 heads of keys and values"),
        (shape_of(4, 2, 4, 9, 64), 2, "the feed-forward size of 9"),
    ],
)
def test_numbers_that_do_not_divide(shape: ModelShape, num_ranks: int, what: str) -> None:
    with pytest.raises(ModelError, match=f"--tensor-parallel-size {num_ranks} does not divide {what}"):
        check_ranks(shape, num_ranks)
