"""Rows of steps: the integers of an iteration, packed, and the columns of all of them."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.scheduling.batch import PreemptionMode

if TYPE_CHECKING:
    from array import array

    from numpy.typing import NDArray

    from pagedbench.memory.usage import MemoryUsage
    from pagedbench.scheduling.batch import Batch

STEP_COLUMNS = ["step", "running", "waiting", "swapped", "prefill_tokens", "decode_tokens",
                "kv_token_states", "kv_reserved", "kv_internal", "kv_external", "kv_free",
                "kv_rounding", "kv_unusable", "kv_shared", "preemptions_recompute",
                "preemptions_swap", "blocks_swapped_in", "blocks_swapped_out", "cow_copies",
                "prefix_hits", "prefix_queried", "evicted_blocks", "blocked_by"]  # fmt: skip
"""Integers of one iteration (`blocked_by` of `BlockedBy`); `Steps.start` and `Steps.end` are its times."""

SO_FAR = ["prefix_hits", "prefix_queried", "evicted_blocks"]
"""Columns that a batch counts since the beginning of the run."""

_pack_row = Struct(f"{len(STEP_COLUMNS)}q").pack


def step_row(batch: Batch, usage: MemoryUsage, num_decoded: int) -> bytes:
    """The row of an iteration, 64-bit integers in the order of STEP_COLUMNS."""
    num_recomputed = len(batch.preempted(PreemptionMode.RECOMPUTE)) if batch.preemptions else 0
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


def step_columns(
    rows: bytes | bytearray, growths: array[int], num_steps: int
) -> dict[str, NDArray[np.int64]]:
    """The columns of all iterations.  # [num_steps] each

    Args:
        rows: one after the other. An iteration without a row is like the one before it, except that every
            decode has filled a reserved slot.
        growths: those of every `Stretch`; the iterations are like the one before otherwise.
    """
    table = np.frombuffer(rows, dtype=np.int64).reshape(-1, len(STEP_COLUMNS))  # [num_rows, num_columns]
    repeats = np.diff(table[:, 0], append=num_steps)  # iterations of each row
    columns = {name: _spread(column, repeats) for name, column in zip(STEP_COLUMNS, table.T, strict=True)}
    first, steps = columns["step"], np.arange(num_steps)
    num_stored = (steps - first) * columns["decode_tokens"]  # tokens since the row's own iteration
    columns["step"] = steps
    columns["kv_token_states"] = columns["kv_token_states"] + num_stored
    columns["kv_reserved"] = columns["kv_reserved"] - num_stored
    if growths:
        _take_in(columns, np.array(growths).reshape(-1, 4), first)
    for name in SO_FAR:
        if columns[name].any():
            columns[name] = np.diff(columns[name], prepend=0)
    return columns


def _spread(column: NDArray[np.int64], repeats: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each number repeated; if all are equal, as in half of the columns of most runs, without memory."""
    if len(column) and (column == column[0]).all():
        return np.broadcast_to(column[0], repeats.sum())
    return np.repeat(column, repeats)


def _take_in(
    columns: dict[str, NDArray[np.int64]], growths: NDArray[np.int64], first: NDArray[np.int64]
) -> None:
    """Put the slots of growths into the columns, up to the next row of each.

    Args:
        growths: as in `Stretch`.  # [num_growths, 4]
        first: the iteration of each iteration's row.  # [num_steps]
    """
    step = growths[:, 0]
    latest = np.searchsorted(step, columns["step"], side="right") - 1  # growth before each iteration
    has_grown = (latest >= 0) & (step[latest] >= first)
    before = columns["kv_free"] + columns["kv_internal"]
    for name, found in zip(("kv_free", "kv_internal", "evicted_blocks"), growths.T[1:], strict=True):
        columns[name] = np.where(has_grown, found[latest], columns[name])
    columns["kv_reserved"] += before - columns["kv_free"] - columns["kv_internal"]
