"""Experts with rows of any length compute what they did, by the grouped product."""

from __future__ import annotations

import pytest
import torch

from models.architectures import ARCHITECTURES, SIZES
from pagedbench.models.expert_rows import ROW_BYTES, pad_experts


@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
@pytest.mark.parametrize("size", [5, 16])
def test_zeros_change_nothing(name: str, size: int) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **{**SIZES, **ARCHITECTURES[name], "intermediate_size": size})
    config._experts_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, experts_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
        tokens = torch.arange(9)[None]
        before = model(tokens).logits
        pad_experts(model)
        down = model.model.layers[0].mlp.experts.down_proj
        rows = down.shape[1 if name == "gpt_oss" else 2]
        assert rows == -(-size * 4 // ROW_BYTES) * ROW_BYTES // 4
        assert torch.allclose(model(tokens).logits, before, atol=1e-5)
        model.set_experts_implementation("grouped_mm")
        assert torch.allclose(model(tokens).logits, before, atol=1e-4)
