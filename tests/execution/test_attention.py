"""A layer's window and sinks reach every attention of an iteration."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pagedbench.execution.attention import BatchAttention, LayerCache
from pagedbench.ops import reference
from pagedbench.ops.addresses import Extents

LENGTHS = [9, 4]
PADDED_LEN = 9


def rows_of(padded_len: int | None) -> SimpleNamespace:
    """Two whole prompts, in extents from slots 0 and 20 on; both are sampled."""
    widths = [padded_len or length for length in LENGTHS]
    slots = [
        torch.cat((torch.full((width - length,), -1), start + torch.arange(length)))
        for width, length, start in zip(widths, LENGTHS, (0, 20), strict=True)
    ]
    lens, extents = torch.tensor(LENGTHS, dtype=torch.int32), Extents(torch.tensor([0, 20]))
    return SimpleNamespace(
        padded_len=padded_len,
        num_tokens=sum(widths),
        num_sampled=2,
        slots=torch.cat(slots),
        query_starts=torch.tensor([0, *widths]).cumsum(0).int(),
        lengths=lens.long(),
        context_lens=lens,
        addresses=extents,
        sampled_context_lens=lens,
        sampled_addresses=extents,
        last_tokens=torch.tensor(widths).cumsum(0) - 1,
    )


@pytest.mark.parametrize("padded_len", [None, PADDED_LEN])
@pytest.mark.parametrize(("window", "sinks"), [(None, 0), (3, 0), (3, 2)])
def test_window_of_a_layer(window: int | None, sinks: int, padded_len: int | None) -> None:
    """The last token of a prompt, whether all tokens attend, only the last ones, or it decodes."""
    rows = rows_of(padded_len)
    query, key, value = torch.randn(3, rows.num_tokens, 1, 8)
    layer = LayerCache(*torch.zeros(2, 30, 1, 8), reference, 1.0, window, sinks)
    attend = BatchAttention([layer], rows, None)
    last = rows.last_tokens
    every = attend(0, query, key, value, None)[last]
    few = attend.last(0, query, key, value, None, last)
    decodes = SimpleNamespace(
        slots=rows.slots[last], context_lens=rows.context_lens, addresses=rows.addresses
    )
    own = BatchAttention([layer], None, decodes)(0, query[last], key[last], value[last], None)
    for i, (end, length) in enumerate(zip(last.tolist(), LENGTHS, strict=True)):
        positions = torch.arange(length)
        if window is not None:
            positions = positions[(positions >= length - window) | (positions < sinks)]
        seen = end - length + 1 + positions
        weights = (key[seen, 0] @ query[end, 0]).softmax(0)
        for out in (every, few, own):
            torch.testing.assert_close(out[i, 0], weights @ value[seen, 0])
