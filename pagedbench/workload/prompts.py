"""The content of prompts: real tokens, texts that seeds determine, and shared prefixes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from pagedbench.prompt import Blocks, Prompt
from pagedbench.request import SamplingParams
from pagedbench.workload.rows import TraceError
from pagedbench.workload.seeds import Stream, generator

if TYPE_CHECKING:
    from pagedbench.workload.rows import BlockIds, Row
    from pagedbench.workload.selection import Selection

_MAX_SEED = 2**63


@dataclass(frozen=True, slots=True)
class SharedPrefixes:
    """Shared prefixes: texts that precede the prompts of a run, one per prompt (paper, section 4.4).

    Attributes:
        length: tokens of each text; 0: there are none.
        groups: number of different texts.
        vocab_size: that of the model; if prompts are real tokens, so are the texts, sampled from it.
    """

    length: int = 0
    groups: int = 1
    vocab_size: int | None = None

    def texts(self, seed: int) -> tuple[Prompt, ...]:
        """The texts; they do not depend on the number of requests."""
        if not self.length:
            return ()
        seeds = generator(seed, Stream.PREFIXES).integers(0, _MAX_SEED, size=self.groups).tolist()
        return tuple(Prompt(self.length, text_seed) for text_seed in seeds)

    def choices(self, num_requests: int, seed: int) -> list[int]:
        """The number of each request's text."""
        numbers = generator(seed, Stream.PREFIXES)
        numbers.integers(0, _MAX_SEED, size=self.groups)  # the seeds of the texts come first
        chosen: list[int] = numbers.integers(0, self.groups, size=num_requests).tolist()
        return chosen


def make_prompts(
    selection: Selection, shared: SharedPrefixes, seed: int
) -> tuple[list[Prompt], tuple[Prompt, ...]]:
    """The prompt of every selected row, and the texts that the prompts begin with.

    Each prompt of which only the length is known gets its own seed, so no two are equal by accident. The
    turns of a session have the same seed: each prompt continues the one before. Blocks with ids have the
    same text in every prompt; only what follows them is the prompt's own.

    Raises:
        TraceError: conversations, and prompts made of blocks, cannot have shared prefixes.
    """
    rows, number = selection.rows, len(selection.rows)
    seeds: list[int] = generator(seed, Stream.PROMPTS).integers(0, _MAX_SEED, size=number).tolist()
    for index, wait in enumerate(selection.waits):
        if wait is not None and rows[index].blocks is None:
            seeds[index] = seeds[wait.requests[0]]
    prompts = [_own(row, text_seed) for row, text_seed in zip(rows, seeds, strict=True)]
    if not shared.length:
        return prompts, ()
    if any(row.session is not None or row.blocks is not None for row in rows):
        raise TraceError(
            "the prompts of this trace already share prefixes or continue conversations: leave out the "
            "shared prefix"
        )
    texts = shared.texts(seed)
    if any(prompt.token_ids is not None for prompt in prompts):
        texts = tuple(_with_ids(text, shared.vocab_size) for text in texts)
    choices = shared.choices(number, seed)
    return [_prefixed(texts[i], own, shared) for i, own in zip(choices, prompts, strict=True)], texts


def _own(row: Row, seed: int) -> Prompt:
    ids = row.prompt_ids
    if ids is not None:
        return Prompt(row.prompt_len, token_ids=ids, reply_ids=row.reply_ids)
    if row.blocks is not None:
        return Prompt(row.prompt_len, seed, prefix=_blocks_of(row.blocks, row.prompt_len))
    return Prompt(row.prompt_len, seed)


def _blocks_of(blocks: BlockIds, prompt_len: int) -> tuple[Blocks, ...]:
    """The blocks as the prefix of a prompt; empty where scaling left no token of them."""
    length = min(int(blocks.size * len(blocks.ids) + 0.5), prompt_len)
    return (Blocks(blocks.ids, blocks.size, length),) if length else ()


def _with_ids(text: Prompt, vocab_size: int | None) -> Prompt:
    assert vocab_size is not None, "real tokens need a vocabulary for their shared prefixes"
    return Prompt(text.length, token_ids=tuple(text.ids(vocab_size).tolist()))


def _prefixed(text: Prompt, own: Prompt, shared: SharedPrefixes) -> Prompt:
    """The prompt that begins with the text and continues with its own tokens."""
    length = text.length + own.length
    if text.token_ids is None:
        return Prompt(length, own.seed, prefix=text.segments)
    own_ids = own.token_ids
    if own_ids is None:  # a trace may mix tokens and lengths
        assert shared.vocab_size is not None
        own_ids = tuple(own.ids(shared.vocab_size).tolist())
    return Prompt(length, token_ids=text.token_ids + own_ids)


def sampling_of(row: Row, decoding: SamplingParams) -> SamplingParams:
    """How the row's reply is decoded: as the row says, otherwise as the run says.

    Args:
        decoding: that of the run; its length is not used.

    Raises:
        TraceError: the row asks for samples, but decoding is greedy.
    """
    if row.beam_width is not None and row.beam_width > 1:
        return SamplingParams(row.output_len, beam_width=row.beam_width, seed=decoding.seed)
    own = _of_length(decoding, row.output_len)
    if row.beam_width is None and row.n is None:
        return own
    n = (1 if decoding.beam_width else decoding.n) if row.n is None else row.n
    if n > 1 and not decoding.temperature > 0:
        raise TraceError(
            f"the trace asks for {n} samples of a prompt, which need a --temperature above 0: greedy "
            "decoding gives the same reply every time"
        )
    return replace(own, n=n, beam_width=None)


@lru_cache(maxsize=2**14)
def _of_length(decoding: SamplingParams, max_tokens: int) -> SamplingParams:
    """Thousands of requests share a few hundred lengths."""
    return replace(decoding, max_tokens=max_tokens)
