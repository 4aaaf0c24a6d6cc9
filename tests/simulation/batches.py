"""Batches with known lengths, without scheduler or memory."""

from __future__ import annotations

from dataclasses import replace

from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams, SequenceGroup
from pagedbench.scheduling.batch import Batch, Prefill

NOTHING = Batch(0, (), (), 0, 0, 0, None)


def sequence_of(length):
    return SequenceGroup(Request(0, 0.0, Prompt(length), SamplingParams(4)), 0).sequences[0]


def prefill_of(start, stop, *, is_sampled=True):
    sequence = sequence_of(stop)
    return Prefill(sequence, start, stop, (sequence,) if is_sampled else ())


def batch_of(*prompts, decodes=0, context=0, **changes):
    """`prompts`: lengths, or (start, stop) of parts that nothing is sampled from."""
    prefills = [
        prefill_of(0, item) if isinstance(item, int) else prefill_of(*item, is_sampled=False)
        for item in prompts
    ]
    decoding = [sequence_of(1) for _ in range(decodes)]
    return replace(NOTHING, prefills=prefills, decodes=decoding, decode_context=context, **changes)
