"""How often Python searches for garbage cycles: rarely, because runs make many objects and few cycles."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GC_THRESHOLDS = (50_000, 20, 20)
"""Thresholds of the garbage collector in a run. Python's own took a fifth of one with a prefix cache."""

COMMAND_THRESHOLDS = (500_000, 20, 20)
"""Those outside runs, where modules and results stay. With Python's own it took 0.3 s of CPU before the
first token, and with a tenth of these 0.07 s."""


@contextmanager
def rare_collections(thresholds: tuple[int, int, int] = GC_THRESHOLDS) -> Iterator[None]:
    """Search rarely in a run, and not at all among objects from before it."""
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*thresholds)
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
