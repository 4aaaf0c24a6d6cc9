"""Rows whose lengths are multiplied, so that a long trace fits a small model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.workload.rows import BlockIds, TraceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.workload.rows import Row


def scaled(rows: Sequence[Row], factor: float) -> Sequence[Row]:
    """The rows with all lengths multiplied and rounded to the nearest token; at least 1 unless 0 before.

    Prompts with a common prefix keep one: tokens are cut at the end, and blocks with ids become smaller.

    Raises:
        TraceError: the factor is above 1, and a row holds token ids, which cannot be stretched.
    """
    return rows if factor == 1 else [_scaled(row, factor) for row in rows]


def _scaled(row: Row, factor: float) -> Row:
    if factor > 1 and row.token_ids is not None:
        raise TraceError("token ids can only be cut: give a --length-scale below 1")
    blocks = None if row.blocks is None else BlockIds(row.blocks.ids, factor * row.blocks.size)
    prompt_len, output_len = (_length(length, factor) for length in (row.prompt_len, row.output_len))
    return row._replace(prompt_len=prompt_len, output_len=output_len, blocks=blocks)


def _length(length: int, factor: float) -> int:
    return max(int(factor * length + 0.5), 1) if length > 0 else length
