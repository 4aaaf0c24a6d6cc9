"""Synthetic batches for calibration: placed in the pool and executed, with no prompt computed before."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.clock import WallClock
from pagedbench.memory.buddy import Buddy
from pagedbench.memory.manager import Allocation
from pagedbench.memory.moves import Copy, Pool
from pagedbench.memory.pool_spec import PoolSpec
from pagedbench.prompt import Prompt
from pagedbench.request import DecodeCounter, Request, SamplingParams, Sequence, SequenceGroup
from pagedbench.scheduling.batch import Batch, Prefill
from pagedbench.systems import SYSTEMS
from pagedbench.tools.calibrate.calibration import Timed, load_of

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager
    from pagedbench.scheduling.samples import Executor

LONG_PROMPTS = 256
"""Prompt tokens that make a single iteration long enough to be timed."""

MAX_STEPS_PER_SAMPLE = 4


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of iteration.

    Attributes:
        prompts: tokens of each prompt, all of them computed.
        decodes, context: how many sequences decode, and the stored tokens of each.
        copied, swapped: blocks that are copied, and moved to the host or back, before the iteration.
        is_held_out: it is not part of the fit, but tests it.
    """

    prompts: tuple[int, ...] = ()
    decodes: int = 0
    context: int = 0
    attention: str = "paged"
    copied: int = 0
    swapped: int = 0
    is_held_out: bool = False

    def num_slots(self, block_size: int, num_steps: int) -> int:
        """The most slots that it occupies in `num_steps` iterations."""
        lens = [length + num_steps + 1 for length in (*self.prompts, *[self.context] * self.decodes)]
        blocks = [-(-length // block_size) for length in lens]
        if self.attention == "contiguous":
            blocks = [Buddy.chunk_size(count) for count in blocks]
        return (sum(blocks) + 2 * (self.copied + self.swapped)) * block_size


def _cases(
    decodes: dict[str, tuple[int, ...]], contexts: tuple[int, ...], *, is_held_out: bool
) -> list[Case]:
    """Decodes for every attention, number of sequences and context length."""
    return [
        Case(decodes=count, context=context, attention=attention, is_held_out=is_held_out)
        for attention, counts in decodes.items()
        for count in counts
        for context in contexts
    ]


# The kinds of attention differ only in how they read the context. Below 32 sequences no multiple of 16 is
# part of the fit: kernels treat a full tile of rows differently from the counts around it.
FIT_DECODES = {"paged": (1, 4, 8, 14, 22, 32, 48, 64, 128, 256), "contiguous": (1, 4, 14, 32, 64)}
HELD_OUT_DECODES = {"paged": (3, 12, 20, 40, 96), "contiguous": (12, 40)}

FIT_CASES = (
    *(Case(prompts=(length,)) for length in (1, 4, 8, 14, 22, 32, 48, 64, 128, 256, 512, 1024, 2000)),
    *(Case(prompts=(length,) * count) for count, length in ((8, 16), (8, 64), (4, 256), (32, 8))),
    *_cases(FIT_DECODES, (16, 128, 512, 1024), is_held_out=False),
    *(Case((length,), decodes=16, context=256) for length in (32, 128, 512)),
    *(Case(decodes=4, context=64, copied=count) for count in (4, 64)),
    *(Case(decodes=4, context=64, swapped=count) for count in (4, 64)),
)

HELD_OUT_CASES = (
    *(Case(prompts=(length,), is_held_out=True) for length in (20, 96, 384, 768)),
    *(Case(prompts=(length,) * count, is_held_out=True) for count, length in ((3, 90), (6, 30))),
    *_cases(HELD_OUT_DECODES, (60, 300, 700), is_held_out=True),
    *(Case((length,), decodes=8, context=200, is_held_out=True) for length in (50, 150, 400)),
    *(Case((80, 160), decodes=24, context=400, attention=name, is_held_out=True)
      for name in ("paged", "contiguous")),
)  # fmt: skip


class SyntheticBatches:
    """The iterations of one case, one after another as the engine would make them.

    The prompts of decoding sequences count as computed: what their slots hold does not change the time to
    read them. In each iteration the sequences grow by one token.
    """

    def __init__(self, case: Case, num_slots: int, block_size: int, num_steps: int) -> None:
        """`num_steps`: the most iterations to be made."""
        self.case = case
        self._block_size = block_size
        self._output_len = num_steps + 1
        longest = max(*case.prompts, case.context, 1) + self._output_len
        num_host = 2 * block_size * max(case.swapped, 1)
        manager = next(item.manager for item in SYSTEMS.values() if item.attention == case.attention)
        self.memory = manager.build(PoolSpec(num_slots, block_size, longest, host_slots=num_host))
        if case.attention == "paged":
            _scatter(self.memory)
        self._counter = DecodeCounter()
        self._num_steps = 0
        decodes = [self._place(i, case.context) for i in range(case.decodes)]
        prompts = [self._place(case.decodes + i, length) for i, length in enumerate(case.prompts)]
        for sequence in decodes:
            sequence.output_ids.append(sequence.sequence_id + 3)
            sequence.start(self._counter)
        self._decodes = decodes
        self._prefills = [Prefill(sequence, 0, sequence.num_tokens, (sequence,)) for sequence in prompts]

    def _place(self, number: int, length: int) -> Sequence:
        request = Request(number, 0.0, Prompt(length, seed=number), SamplingParams(self._output_len))
        group = SequenceGroup(request, number)
        self.memory.allocate(group)
        return group.sequences[0]

    def next_batch(self) -> Batch:
        for sequence in self._decodes:
            if self.memory.room(sequence) == 0:
                self.memory.append(sequence)
        self.memory.advance(len(self._decodes))
        self._counter.count += 1
        self._num_steps += 1
        is_odd = self._num_steps % 2 == 1
        return Batch(
            step=self._num_steps,
            prefills=self._prefills,
            decodes=self._decodes,
            decode_context=sum(sequence.num_stored for sequence in self._decodes),
            num_running=len(self._decodes) + len(self._prefills),
            num_waiting=0,
            decode_step=self._num_steps if self._decodes else None,
            copies=self._moves(self.case.copied, Pool.DEVICE, Pool.DEVICE),
            swap_outs=self._moves(self.case.swapped if is_odd else 0, Pool.DEVICE, Pool.HOST),
            swap_ins=self._moves(0 if is_odd else self.case.swapped, Pool.HOST, Pool.DEVICE),
        )

    def _moves(self, count: int, source: Pool, destination: Pool) -> list[Copy]:
        """Copies from every second block to the next, so that no two adjoin. No sequence owns them."""
        size = self._block_size
        return [Copy(2 * i * size, (2 * i + 1) * size, size, source, destination) for i in range(count)]

    def sample(self, executor: Executor) -> list[Timed]:
        """Time a few iterations. The first that decodes is not timed: it has to list its rows again."""
        num_untimed = 1 if self._decodes else 0
        num_timed = 1 if sum(self.case.prompts) >= LONG_PROMPTS else MAX_STEPS_PER_SAMPLE - 1
        found = []
        for _ in range(num_untimed + num_timed):
            batch = self.next_batch()
            clock = WallClock()
            samples = executor.execute(batch)
            found.append(Timed(load_of(batch, self.case.attention), clock.now))
            for sequence, token in zip(samples.sequences, samples.tokens, strict=True):
                if sequence in self._decodes:
                    sequence.output_ids.append(token)
        return found[num_untimed:]


def _scatter(memory: KVManager) -> None:
    """Free all blocks in random order, as after an hour of serving: scattered blocks are slower to read."""
    group = SequenceGroup(Request(0, 0.0, Prompt(1), SamplingParams(1)), 0)
    owners = []
    while memory.can_allocate(group) is Allocation.OK:
        memory.allocate(group)
        owners += group.sequences
        group = SequenceGroup(group.request, 0)
    random.Random(len(owners)).shuffle(owners)
    for sequence in owners:
        memory.free(sequence)
