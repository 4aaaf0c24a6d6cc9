"""Rows of steps: the integers of an iteration, packed, and the columns of all of them."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.scheduling.batch import PreemptionMode

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from pagedbench.memory.usage import MemoryUsage
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.repetition import Growth

STEP_COLUMNS = ["step", "running", "waiting", "swapped", "prefill_tokens", "decode_tokens",
                "kv_token_states", "kv_reserved", "kv_internal", "kv_external", "kv_free",
                "kv_rounding", "kv_unusable", "kv_shared", "preemptions_recompute",
                "preemptions_swap", "blocks_swapped_in", "blocks_swapped_out", "cow_copies",
                "prefix_hits", "prefix_queried", "evicted_blocks", "blocked_by"]  # fmt: skip
"""Integers of one iteration (`blocked_by` of `BlockedBy`); `Steps.start` and `Steps.end` are its times."""

_NO_MOVES = (0,) * 7  # preemptions, blocks swapped or copied, and prefix hits

_pack_row = Struct(f"{len(STEP_COLUMNS)}q").pack


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


def growth_rows(batch: Batch, growths: Items[Growth]) -> bytes:
    """The rows of iterations like `batch`, which only decodes, in which sequences got slots."""
    step, num_decodes, blocked_by = batch.step, len(batch.decodes), int(batch.blocked_by)
    requests = (batch.num_running, batch.num_waiting, 0, 0, num_decodes)
    return b"".join(
        [
            _pack_row(
                step + number,
                *requests,
                usage.token_states,
                usage.reserved,
                usage.internal,
                usage.rounding + usage.unusable,
                usage.free,
                usage.rounding,
                usage.unusable,
                usage.shared,
                *_NO_MOVES,
                num_evicted,
                blocked_by,
            )
            for number, usage, num_evicted in growths
        ]
    )


def step_columns(rows: bytes | bytearray, num_steps: int) -> dict[str, NDArray[np.int64]]:
    """The columns of all iterations.  # [num_steps] each

    Args:
        rows: one after the other. An iteration without a row is like the one before it, except that every
            decode has filled a reserved slot, and nothing was evicted.
    """
    table = np.frombuffer(rows, dtype=np.int64).reshape(-1, len(STEP_COLUMNS))  # [num_rows, num_columns]
    number = np.diff(table[:, STEP_COLUMNS.index("step")], append=num_steps)  # iterations of each row
    columns = {name: np.repeat(column, number) for name, column in zip(STEP_COLUMNS, table.T, strict=True)}
    after = np.arange(num_steps) - columns["step"]  # iterations since the row's own
    columns["step"] += after
    columns["kv_token_states"] += after * columns["decode_tokens"]
    columns["kv_reserved"] -= after * columns["decode_tokens"]
    columns["evicted_blocks"][after > 0] = 0
    return columns
