"""Joins the pieces of contexts that several programs of the decode kernel attended to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from pagedbench.kernels.triton.arithmetic import narrow

if TYPE_CHECKING:
    from torch import Tensor


@triton.jit
def _combine_kernel(
    out: tl.tensor,  # [num_rows, head_dim]
    pieces: tl.tensor,  # float32 [num_rows, num_splits, head_dim]
    log_totals: tl.tensor,  # float32 [num_rows, num_splits]
    num_splits: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
) -> None:
    """A program is one head of one sequence; the weight of a piece is the sum of its weights."""
    row = tl.program_id(0).to(tl.int64)
    splits, lanes = tl.arange(0, num_splits), tl.arange(0, head_pad)
    is_real = lanes < head_dim
    log_total = tl.load(log_totals + row * num_splits + splits)  # -inf for an empty piece
    peak = tl.max(log_total, axis=0)
    weights = tl.exp2(log_total - tl.where(peak == float("-inf"), 0.0, peak))  # [num_splits]
    rows = pieces + (row * num_splits + splits[:, None]) * head_dim
    values = tl.load(rows + lanes[None, :], mask=is_real[None, :], other=0.0)  # [num_splits, head_pad]
    total = tl.sum(weights, axis=0)
    result = tl.sum(weights[:, None] * values, axis=0) / tl.where(total == 0.0, 1.0, total)
    tl.store(out + row * head_dim + lanes, narrow(result, out.dtype.element_ty), mask=is_real)


def combine(out: Tensor, pieces: Tensor, log_totals: Tensor) -> None:
    """Write the attention over whole contexts to `out`.

    Args:
        out: [num_sequences, num_heads, head_dim], contiguous.
        pieces: float32 [num_sequences, num_heads, num_splits, head_dim], the attention over each piece.
        log_totals: float32 [num_sequences, num_heads, num_splits], log2 of the sum of a piece's weights;
            -inf for a piece without tokens, which must be zeros.
    """
    num_sequences, num_heads, num_splits, head_dim = pieces.shape
    _combine_kernel[(num_sequences * num_heads,)](
        out,
        pieces,
        log_totals,
        num_splits=num_splits,
        head_dim=head_dim,
        head_pad=triton.next_power_of_2(head_dim),
        num_warps=2,
        enable_fp_fusion=True,
    )
