"""Runs a backend on another device with the CPU tensors that the tests are written in."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""Where the Triton kernels run."""


class OnDevice:
    """A backend, or a layer of one: tensors are moved there, and what a call changed in them moves back."""

    def __init__(self, target: Any, device: str) -> None:
        self._target = target
        self._device = device

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if not callable(attribute):
            return attribute
        return lambda *args, **options: self._call(attribute, args, options)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._call(self._target, args, options)

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        moved: dict[int, tuple[Tensor, Tensor]] = {}  # by identity: the same tensor twice stays the same

        def move(arg: Any) -> Any:
            if isinstance(arg, list | tuple):
                return [move(item) for item in arg]
            if is_dataclass(arg) and not isinstance(arg, type):
                return replace(arg, **{field.name: move(getattr(arg, field.name)) for field in fields(arg)})
            if not isinstance(arg, Tensor):
                return arg
            return moved.setdefault(id(arg), (arg, arg.to(self._device, copy=True)))[1]

        is_copy = getattr(function, "__name__", "") == "copy_runs"  # its runs stay on the CPU
        moved_args = (args[2] if is_copy and i == 2 else move(arg) for i, arg in enumerate(args))
        result = function(*moved_args, **{name: move(option) for name, option in options.items()})
        for here, there in moved.values():
            here.copy_(there)
        if isinstance(result, Tensor):
            return result.cpu()
        return None if result is None else OnDevice(result, self._device)
