"""Runs a backend on another device with the CPU tensors that the tests are written in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable


class OnDevice:
    """A backend, or a layer of one: tensors are moved there, and what a call changed in them moves back."""

    def __init__(self, target: Any, device: str) -> None:
        self._target = target
        self._device = device

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        return (lambda *args: self._call(attribute, args)) if callable(attribute) else attribute

    def __call__(self, *args: Any) -> Any:
        return self._call(self._target, args)

    def _call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        moved: dict[int, tuple[Tensor, Tensor]] = {}  # by identity: the same tensor twice stays the same

        def move(arg: Any) -> Any:
            if isinstance(arg, list | tuple):
                return [move(item) for item in arg]
            if not isinstance(arg, Tensor):
                return arg
            return moved.setdefault(id(arg), (arg, arg.to(self._device, copy=True)))[1]

        is_copy = getattr(function, "__name__", "") == "copy_runs"  # its runs stay on the CPU
        result = function(*(args[2] if is_copy and i == 2 else move(arg) for i, arg in enumerate(args)))
        for here, there in moved.values():
            here.copy_(there)
        if isinstance(result, Tensor):
            return result.cpu()
        return None if result is None else OnDevice(result, self._device)
