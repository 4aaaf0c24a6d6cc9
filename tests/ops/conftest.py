"""The backends that every operation is tested with."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ops.on_device import OnDevice
from pagedbench.ops.select import select_ops

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FunctionType, ModuleType

    from pagedbench.ops.interface import Ops


# Before anything imports Triton: without a GPU its kernels run in its interpreter, on the CPU's tensors.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def _on_one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and lose much where other tests run beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def native() -> Ops:
    try:
        return select_ops("cpu", "native")
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture
def no_matrix_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pack every weight in panels, also on processors where torch's product in bfloat16 is faster."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


@pytest.fixture(scope="session", autouse=True)
def _quick_interpreter() -> Iterator[None]:
    """Spare Triton's interpreter what costs most of its time and has no effect.

    It replaces the functions of `triton.language` when a kernel begins, and again whenever the kernel calls
    another function. It looks for overflows of integers, and reports them in its debug mode alone.
    """
    try:
        from triton import language
        from triton.runtime import interpreter
    except ImportError:
        yield
        return
    patch = interpreter._patch_lang

    @cache
    def modules_of(function: FunctionType) -> list[ModuleType]:
        """Those that the function sees."""
        values = [id(value) for value in function.__globals__.values()]
        return [module for module in (language, language.core) if id(module) in values]

    def patch_once(function: FunctionType) -> object:
        is_patched = not any(language.core.is_builtin(module.load) for module in modules_of(function))
        return interpreter._LangPatchScope() if is_patched else patch(function)

    builder = interpreter.interpreter_builder
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(interpreter, "_patch_lang", patch_once)
        monkeypatch.setattr(builder, "options", replace(builder.options, sanitize_overflow=False))
        yield


@pytest.fixture
def triton() -> Iterator[Ops]:
    """The Triton kernels: on a GPU if there is one, else interpreted."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        ops = select_ops(device, "triton")
    except ValueError as error:
        pytest.skip(str(error))
    with np.errstate(all="ignore"):  # the interpreter computes in numpy, which would warn of NaN and inf
        yield ops if device == "cpu" else OnDevice(ops, device)


@pytest.fixture(params=["reference", "native", "triton"])
def ops(request: pytest.FixtureRequest) -> Ops:
    return (
        select_ops("cpu", "reference")
        if request.param == "reference"
        else request.getfixturevalue(request.param)
    )
