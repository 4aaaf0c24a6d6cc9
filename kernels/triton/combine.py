"""Joins the pieces of contexts that several programs of the decode kernel attended to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from pagedbench.kernels.triton.arithmetic import narrow

if TYPE_CHECKING:
    from torch import Tensor


@triton.jit(do_not_specialize=["num_splits"])
def _combine_kernel(
    out: tl.tensor,  # [num_rows, head_dim]
    pieces: tl.tensor,  # float32 [num_rows, num_splits, head_dim]
    log_totals: tl.tensor,  # float32 [num_rows, num_splits]
    num_splits: tl.tensor,
    max_splits: tl.constexpr,
    head_dim: tl.constexpr,
    head_pad: tl.constexpr,
) -> None:
    """A program is one head of one sequence; the weight of a piece is the sum of its weights."""
    row = tl.program_id(0).to(tl.int64)
    splits, lanes = tl.arange(0, max_splits), tl.arange(0, head_pad)
    is_piece, is_real = splits < num_splits, lanes < head_dim
    log_total = tl.load(log_totals + row * num_splits + splits, mask=is_piece, other=float("-inf"))
    peak = tl.max(log_total, axis=0)
    weights = tl.exp2(log_total - tl.where(peak == float("-inf"), 0.0, peak))  # [max_splits]
    rows = pieces + (row * num_splits + splits[:, None]) * head_dim
    mask = is_piece[:, None] & is_real[None, :]
    values = tl.load(rows + lanes[None, :], mask=mask, other=0.0)  # [max_splits, head_pad]
    total = tl.sum(weights, axis=0)
    result = tl.sum(weights[:, None] * values, axis=0) / tl.where(total == 0.0, 1.0, total)
    tl.store(out + row * head_dim + lanes, narrow(result, out.dtype.element_ty), mask=is_real)


def combine(out: Tensor, pieces: Tensor, log_totals: Tensor, max_splits: int) -> None:
    """Write the attention over whole contexts to `out`.

    Args:
        out: [num_sequences, num_heads, head_dim], contiguous.
        pieces: float32 [num_sequences, num_heads, num_splits, head_dim], the attention over each piece.
        log_totals: float32 [num_sequences, num_heads, num_splits], log2 of the sum of a piece's weights;
            -inf for a piece without tokens, which must be zeros.
        max_splits: the most pieces there can be, a power of two: one kernel joins any number of them.
    """
    num_sequences, num_heads, num_splits, head_dim = pieces.shape
    _combine_kernel[(num_sequences * num_heads,)](
        out,
        pieces,
        log_totals,
        num_splits,
        max_splits=max_splits,
        head_dim=head_dim,
        head_pad=triton.next_power_of_2(head_dim),
        num_warps=2,
        enable_fp_fusion=True,
    )
