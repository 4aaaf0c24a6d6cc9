"""What "auto" stands for on this device."""

from __future__ import annotations

import pytest
import torch

from pagedbench.ops.device import default_dtype


@pytest.mark.parametrize(
    ("has_bf16", "has_amx", "dtype"),
    [
        (False, False, "float32"),
        (True, False, "bfloat16"),
        (False, True, "bfloat16"),
    ],
)
def test_the_dtype_is_the_one_that_the_processor_computes_in(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, has_amx: bool, dtype: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    assert default_dtype("cpu") == dtype
    assert default_dtype("cuda") == "bfloat16"
