"""Classes of the user's own, by `module:Class` on the command line or as objects from Python."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import Any

from pagedbench.config import ConfigError

_CLASSES: dict[str, type] = {}
"""Reference -> class, for classes that were passed as objects."""


def reference_to(own: type) -> str:
    """`module:Class` of a class of the user's own, which may be defined in a notebook or a function."""
    reference = f"{own.__module__}:{own.__qualname__}"
    _CLASSES[reference] = own
    return reference


def imported(option: str, reference: str, *kinds: type) -> Any:
    """The class of `module:Class` or `name=module:Class`; the module may lie in the current folder."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    path = reference.rpartition("=")[2]
    module_name, _, class_name = path.partition(":")
    try:
        found = _CLASSES.get(path) or getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, TypeError, ValueError, SyntaxError) as error:
        raise ConfigError(f"{option} {reference} cannot be imported as module:Class: {error}") from error
    if not (isinstance(found, type) and issubclass(found, kinds)):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError(f"{option} {reference} is not a subclass of pagedbench's {names}")
    if inspect.isabstract(found):
        raise ConfigError(f"{option} {reference} is abstract: name a class that defines every method")
    return found
