"""Attention worked out in float64, one query row after another, and the error that PyTorch itself makes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-6
"""Differences below this are rounding, even where PyTorch happens to make none."""


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """The last rows of a context over it, causal.

    `query`: [num_rows, num_heads, head_dim]; `key`, `value`: [context_len, num_kv_heads, head_dim].
    """
    query, key, value = query.double(), key.double(), value.double()
    out = torch.zeros_like(query)
    for row in range(query.shape[0]):
        seen = key.shape[0] - query.shape[0] + row + 1
        for head in range(query.shape[1]):
            kv_head = head * key.shape[1] // query.shape[1]
            scores = key[:seen, kv_head] @ query[row, head] * scale
            weights = torch.exp(scores - scores.max())
            out[row, head] = (weights / weights.sum()) @ value[:seen, kv_head]
    return out


def torch_attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """The same by PyTorch in the tensors' own dtype: the yardstick."""
    group_size = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group_size, 1), value.repeat_interleave(group_size, 1)
    mask = torch.ones(query.shape[0], key.shape[0], dtype=torch.bool).tril(key.shape[0] - query.shape[0])
    query, key, value = (side.transpose(0, 1)[None] for side in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, mask, scale=scale)[0].transpose(0, 1)


def assert_close(out: Tensor, contexts: list[tuple[Tensor, Tensor, Tensor]], scale: float) -> None:
    """The error of `out` is at most twice PyTorch's own.

    `contexts`: query, key and value of every sequence in order; `out`: their rows one after another.
    """
    exact = torch.cat([attend(*context, scale) for context in contexts])
    ours = (out.double() - exact).abs().max()
    torchs = (
        (torch.cat([torch_attend(*context, scale) for context in contexts]).double() - exact).abs().max()
    )
    assert out.isfinite().all()
    assert ours <= 2 * torchs + FLOOR, f"error {ours:.2e}, PyTorch's own {torchs:.2e}"
