"""Drives a ModelExecutor by hand: placements, batches and sequences without a scheduler."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch

from pagedbench.execution.kv_cache import KVCache
from pagedbench.execution.model_runner import ModelExecutor
from pagedbench.memory.layer_group import ALL_LAYERS
from pagedbench.memory.placement import BlockTable, Extent
from pagedbench.models.loader import load_model
from pagedbench.ops.select import select_ops
from pagedbench.prompt import Prompt
from pagedbench.request import DecodeCounter, Request, SamplingParams, SequenceGroup
from pagedbench.scheduling.batch import Batch, Prefill

if TYPE_CHECKING:
    from pathlib import Path

NUM_SLOTS = 1200


class Placements:
    """The part of a memory manager that a runner asks: shuffled blocks, or scattered extents."""

    num_host_slots = NUM_SLOTS
    tiers = None
    pages = None
    layer_groups = (ALL_LAYERS,)

    def __init__(self, attention: str, block_size: int, seed: int) -> None:
        self.attention = attention
        self.block_size = block_size
        self.placements = {}
        self._free = list(range(NUM_SLOTS // block_size))
        self._random = random.Random(seed)
        self._random.shuffle(self._free)
        self._end = NUM_SLOTS

    def place(self, sequence, size):
        """Give the sequence new room for `size` tokens."""
        if self.attention == "paged":
            num_blocks = -(-size // self.block_size)
            blocks = [self._free.pop() for _ in range(num_blocks)]
            self.placements[sequence] = BlockTable(blocks, self.block_size)
        else:
            self._end -= size + self._random.randrange(5)
            self.placements[sequence] = Extent(self._end, size)

    def placement(self, sequence, layer_group=0):
        return self.placements[sequence]


class Driver:
    """Requests by number, and iterations as lists of numbers.

    The cache starts as NaN, so that a read of a slot that nobody wrote spoils the result.
    """

    def __init__(
        self,
        folder: Path,
        prompts,
        lens,
        *,
        attention="paged",
        kernels="auto",
        block_size=4,
        seed=0,
        dtype=torch.float32,
        save_logprobs=False,
    ) -> None:
        ops = select_ops("cpu", kernels, dtype)
        loaded = load_model(str(folder), dtype=dtype, ops=ops)
        self.cache = KVCache(loaded.shape, NUM_SLOTS, dtype, "cpu")
        self.poison()
        self.memory = Placements(attention, block_size, seed)
        self.executor = ModelExecutor.in_process(
            loaded.model, self.cache, self.memory, ops, save_logprobs=save_logprobs
        )
        self.sequences, self.counters = [], []
        for number, (prompt, length) in enumerate(zip(prompts, lens, strict=True)):
            ids = prompt if isinstance(prompt, Prompt) else Prompt(len(prompt), token_ids=tuple(prompt))
            request = Request(number, 0.0, ids, SamplingParams(length))
            sequence = SequenceGroup(request, number).sequences[0]
            self.memory.place(sequence, request.final_len)
            counter = DecodeCounter()
            sequence.start(counter)
            self.sequences.append(sequence)
            self.counters.append(counter)
        self.num_steps = 0

    @property
    def replies(self):
        return [sequence.output_ids for sequence in self.sequences]

    def is_done(self, number):
        sequence = self.sequences[number]
        return len(sequence.output_ids) >= sequence.group.request.reply_len

    def poison(self):
        for tensor in self.cache.tensors:
            tensor.fill_(float("nan"))

    def step(self, prefills=(), decodes=(), *, padded_len=None, copies=(), swap_outs=(), swap_ins=()):
        """Run one iteration; `prefills`: numbers, (number, start, stop), Prefills. Returns the samples."""
        parts = [self._prefill(item) for item in prefills]
        num_dead = 0
        for number in decodes:
            if self.is_done(number):
                num_dead += 1  # stands still
            else:
                self.counters[number].count += 1
        batch = Batch(
            step=self.num_steps,
            prefills=parts,
            decodes=[self.sequences[number] for number in decodes],
            decode_context=0,
            num_running=0,
            num_waiting=0,
            decode_step=self.num_steps if decodes else None,
            num_dead=num_dead,
            padded_len=padded_len,
            copies=copies,
            swap_outs=swap_outs,
            swap_ins=swap_ins,
        )
        self.num_steps += 1
        samples = self.executor.execute(batch)
        for sequence, token, logprob in zip(
            samples.sequences, samples.tokens, samples.logprobs, strict=True
        ):
            sequence.output_ids.append(token)
            sequence.cumulative_logprob += logprob
        return samples

    def finish(self, numbers):
        """Decode the given sequences until each has its length."""
        while alive := [number for number in numbers if not self.is_done(number)]:
            self.step(decodes=alive)

    def _prefill(self, item):
        if isinstance(item, Prefill):
            return item
        if isinstance(item, int):
            item = (item, 0, self.sequences[item].num_stored)
        number, start, stop = item
        sequence = self.sequences[number]
        sampled = (sequence,) if stop == sequence.num_stored else ()
        return Prefill(sequence, start, stop, sampled)
