"""The rows of steps of which only the lengths of sequences differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.memory.usage import MemoryUsage

USAGE = ("token_states", "reserved", "internal", "external", "free", "rounding", "unusable", "shared")


def repeated_rows(last: bytes | bytearray, columns: Items[str], usage: MemoryUsage, number: int) -> bytes:
    """The `number` rows after the row `last`, of 64-bit integers; each adds the same to the one before.

    Args:
        columns: names of the integers.
        usage: of memory in the first of these rows.
    """
    row = np.frombuffer(last, dtype=np.int64)  # [num_columns]
    change = np.zeros_like(row)
    change[columns.index("step")] = 1
    for name in USAGE:
        index = columns.index(f"kv_{name}")
        change[index] = getattr(usage, name) - row[index]
    return (row + np.arange(1, number + 1)[:, None] * change).tobytes()  # [number, num_columns]
