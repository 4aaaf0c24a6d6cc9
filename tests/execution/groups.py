"""Groups with a past, without scheduler or model."""

from __future__ import annotations

from pagedbench.prompt import Prompt
from pagedbench.request import DecodeCounter, Request, SamplingParams, SequenceGroup

PROMPT_LEN = 3


def group_of(number=0, num_tokens=0, prompt_len=PROMPT_LEN, **sampling):
    """A group of request `number`, each of whose sequences has `num_tokens` tokens already."""
    sampling.setdefault("max_tokens", 8)
    group = SequenceGroup(Request(number, 0.0, Prompt(prompt_len), SamplingParams(**sampling)), number)
    for sequence in group.sequences:
        sequence.output_ids = [0] * num_tokens
        sequence.start(DecodeCounter())
    return group
