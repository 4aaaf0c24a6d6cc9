"""Which backend is chosen, and what is said where the wanted one cannot be had."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import torch

from pagedbench.ops.select import select_ops

if TYPE_CHECKING:
    from pagedbench.ops.interface import Ops


@pytest.fixture
def _without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pagedbench.kernels._cpu", None)
    monkeypatch.delitem(sys.modules, "pagedbench.ops.native", raising=False)


def test_auto_prefers_native(native: Ops) -> None:
    assert select_ops("cpu") is native
    assert native.name == "native"


def test_reference_by_name() -> None:
    assert select_ops("cpu", "reference").name == "reference"


@pytest.mark.usefixtures("_without_native")
def test_falls_back_without_the_module() -> None:
    assert select_ops("cpu").name == "reference"
    with pytest.raises(
        ValueError, match=r"were not built: install GCC or Clang, .* -m pip install --editable"
    ):
        select_ops("cpu", "native")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_falls_back_for_other_dtypes(native: Ops, dtype: torch.dtype) -> None:
    assert select_ops("cpu", dtype=dtype).name == "reference"
    with pytest.raises(ValueError, match=f"not {str(dtype).removeprefix('torch.')}"):
        select_ops("cpu", "native", dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_native_dtypes(native: Ops, dtype: torch.dtype) -> None:
    assert select_ops("cpu", dtype=dtype) is native


def test_native_is_for_the_cpu() -> None:
    with pytest.raises(ValueError, match="not on cuda"):
        select_ops("cuda", "native")


@pytest.fixture
def _without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    for name in [name for name in sys.modules if name.startswith("pagedbench.kernels.triton")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "pagedbench.ops.triton", raising=False)


@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_auto_prefers_triton_on_a_gpu(dtype: torch.dtype) -> None:
    assert select_ops("cuda", dtype=dtype).name == "triton"


@pytest.mark.usefixtures("_without_triton")
def test_falls_back_without_triton() -> None:
    assert select_ops("cuda").name == "reference"
    with pytest.raises(ValueError, match=r"need triton: .* -m pip install triton"):
        select_ops("cuda", "triton")


@pytest.mark.usefixtures("triton")
def test_triton_stores_no_float64() -> None:
    assert select_ops("cuda", dtype=torch.float64).name == "reference"
    with pytest.raises(ValueError, match="not float64: choose one of these"):
        select_ops("cuda", "triton", torch.float64)


def test_triton_is_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="run on a CUDA GPU, not on the cpu: ask for --kernels auto"):
        select_ops("cpu", "triton")


def test_unknown_kernels() -> None:
    with pytest.raises(
        ValueError, match="unknown kernels 'fast': choose one of auto, native, triton, reference"
    ):
        select_ops("cpu", "fast")
