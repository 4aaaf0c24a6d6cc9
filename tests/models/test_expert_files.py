"""Parts of all experts, read from files with a tensor an expert, are parts of transformers' tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from models.architectures import make_folder
from pagedbench.models.expert_files import ExpertFiles
from pagedbench.models.loader import find_source
from pagedbench.models.shard_loader import shard_of
from pagedbench.models.sharding import ShardedWeights
from pagedbench.models.weights import CheckpointWeights
from pagedbench.simulation.config_shapes import ModelError

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe"])
def test_parts_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    folder = make_folder(tmp_path, name)
    layer = AutoModelForCausalLM.from_pretrained(folder).model.layers[1].mlp
    gate, up = layer.experts.gate_up_proj.chunk(2, dim=1)  # [experts, size, hidden_size] each
    down, source = layer.experts.down_proj, find_source(str(folder), "auto")
    files, half = ExpertFiles(CheckpointWeights(folder, torch.float32, CPU)), gate.shape[1] // 2
    for rank in range(2):
        shard = shard_of(source, rank, 2)
        weights, own = ShardedWeights(files, shard), slice(rank * half, (rank + 1) * half)
        path, (number, _, hidden) = "model.layers.1.mlp", gate.shape
        part = weights.tensor(f"{path}.experts.gate_up_proj", number, 2 * half, hidden)
        assert torch.equal(part, torch.cat((gate[:, own], up[:, own]), dim=1))
        assert torch.equal(
            weights.tensor(f"{path}.experts.down_proj", number, hidden, half), down[:, :, own]
        )
        assert torch.equal(weights.tensor(f"{path}.gate.weight", number, hidden), layer.gate.weight)


def test_the_head_of_gpt_neox_has_another_name(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = make_folder(tmp_path, "gpt_neox")
    files = ExpertFiles(CheckpointWeights(folder, torch.float32, CPU))
    stored = load_file(folder / "model.safetensors")["embed_out.weight"]
    assert torch.equal(files.tensor("lm_head.weight", *stored.shape), stored)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    files = ExpertFiles(CheckpointWeights(make_folder(tmp_path, "mixtral"), torch.float32, CPU))
    with pytest.raises(ModelError, match=r"lack the tensor model\.layers\.7\.mlp\.gate"):
        files.tensor("model.layers.7.mlp.gate_proj.weight", 4, 4)
