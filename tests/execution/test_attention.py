"""A layer's window and sinks reach every attention of an iteration."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pagedbench.execution.attention import BatchAttention, LayerCache
from pagedbench.execution.step_inputs import InputTensors
from pagedbench.ops import reference
from pagedbench.ops.addresses import Extents

LENGTHS = [9, 4]
PADDED_LEN = 9


def prompts(padded_len: int | None) -> InputTensors:
    """Two whole prompts, in extents from slots 0 and 20 on; both are sampled."""
    widths = [padded_len or length for length in LENGTHS]
    slots = [
        torch.cat((torch.full((width - length,), -1), start + torch.arange(length)))
        for width, length, start in zip(widths, LENGTHS, (0, 20), strict=True)
    ]
    tokens = torch.zeros(sum(widths), dtype=torch.int64)
    return InputTensors(
        token_ids=tokens,
        positions=tokens,
        slots=torch.cat(slots),
        context_lens=torch.tensor(LENGTHS, dtype=torch.int32),
        addresses=Extents(torch.tensor([0, 20])),
        num_decodes=0,
        padded_len=padded_len,
        query_starts=torch.tensor([0, *widths]).cumsum(0).int(),
        sampled_tokens=torch.tensor(widths).cumsum(0) - 1,
        sampled_sequences=torch.tensor([0, 1]),
    )


@pytest.mark.parametrize("padded_len", [None, PADDED_LEN])
@pytest.mark.parametrize(("window", "sinks"), [(None, 0), (3, 0), (3, 2)])
def test_window_of_a_layer(window: int | None, sinks: int, padded_len: int | None) -> None:
    """The last token of a prompt, whether all tokens attend, only the last ones, or it decodes."""
    inputs = prompts(padded_len)
    query, key, value = torch.randn(3, len(inputs.slots), 1, 8)
    layer = LayerCache(*torch.zeros(2, 30, 1, 8), reference, 1.0, window, sinks)
    attend, last = BatchAttention([layer], inputs), inputs.sampled_tokens
    every = attend(0, query, key, value, None)[last]
    few = attend(0, query, key, value, None, last)
    decodes = replace(inputs, slots=inputs.slots[last], num_decodes=2, padded_len=None, query_starts=None)
    own = BatchAttention([layer], decodes)(0, query[last], key[last], value[last], None)
    for i, (end, length) in enumerate(zip(last.tolist(), LENGTHS, strict=True)):
        positions = torch.arange(length)
        if window is not None:
            positions = positions[(positions >= length - window) | (positions < sinks)]
        seen = end - length + 1 + positions
        weights = (key[seen, 0] @ query[end, 0]).softmax(0)
        for out in (every, few, own):
            torch.testing.assert_close(out[i, 0], weights @ value[seen, 0])
