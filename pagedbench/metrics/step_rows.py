"""Rows of steps: the integers of an iteration, packed, and those of iterations that follow alike."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.scheduling.batch import PreemptionMode

if TYPE_CHECKING:
    from pagedbench.memory.usage import MemoryUsage
    from pagedbench.scheduling.batch import Batch

STEP_COLUMNS = ["step", "running", "waiting", "swapped", "prefill_tokens", "decode_tokens",
                "kv_token_states", "kv_reserved", "kv_internal", "kv_external", "kv_free",
                "kv_rounding", "kv_unusable", "kv_shared", "preemptions_recompute",
                "preemptions_swap", "blocks_swapped_in", "blocks_swapped_out", "cow_copies",
                "prefix_hits", "prefix_queried", "evicted_blocks", "blocked_by"]  # fmt: skip
"""Integers of one iteration (`blocked_by` of `BlockedBy`); `Steps.start` and `Steps.end` are its times."""

_pack_row = Struct(f"{len(STEP_COLUMNS)}q").pack

USAGE = ("token_states", "reserved", "internal", "external", "free", "rounding", "unusable", "shared")


def step_row(batch: Batch, usage: MemoryUsage, num_decoded: int) -> bytes:
    """The row of an iteration, 64-bit integers in the order of STEP_COLUMNS."""
    num_recomputed = sum(item.mode is PreemptionMode.RECOMPUTE for item in batch.preemptions)
    return _pack_row(
        batch.step,
        batch.num_running,
        batch.num_waiting,
        batch.num_swapped,
        batch.num_prefill_tokens,
        num_decoded,
        usage.token_states,
        usage.reserved,
        usage.internal,
        usage.external,
        usage.free,
        usage.rounding,
        usage.unusable,
        usage.shared,
        num_recomputed,
        len(batch.preemptions) - num_recomputed,
        len(batch.swap_ins),
        len(batch.swap_outs),
        len(batch.copies),
        batch.prefix_hits,
        batch.prefix_queried,
        batch.evicted_blocks,
        batch.blocked_by,
    )


def repeated_rows(last: bytes | bytearray, usage: MemoryUsage, number: int) -> bytes:
    """The `number` rows after the row `last`; each adds the same to the one before.

    Args:
        usage: of memory in the first of these rows.
    """
    row = np.frombuffer(last, dtype=np.int64)  # [num_columns]
    change = np.zeros_like(row)
    change[STEP_COLUMNS.index("step")] = 1
    for name in USAGE:
        index = STEP_COLUMNS.index(f"kv_{name}")
        change[index] = getattr(usage, name) - row[index]
    return (row + np.arange(1, number + 1)[:, None] * change).tobytes()  # [number, num_columns]
