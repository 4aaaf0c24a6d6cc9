"""The rules of the paper word by word, at a cost of everything that runs in every iteration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.scheduling.scheduler import Limits


@dataclass
class Job:
    """A request. Its table of each sequence names blocks; equal names are shared blocks."""

    number: int
    prompt_len: int
    output_len: int
    n: int = 1
    num_generated: int = 0
    tables: list[list[int]] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens that are stored when the next iteration has run."""
        return self.prompt_len + self.num_generated

    @property
    def blocks(self) -> set[int]:
        return {block for table in self.tables for block in table}


@dataclass
class Events:
    """One iteration, as numbers of requests."""

    decoding: list[int]
    prefilled: list[int]
    recomputed: list[int]
    swapped_out: list[int]
    swapped_in: list[int]
    preempted: list[tuple[int, int, int]]  # victim, whose growth forced it, blocks freed
    num_copies: int
    num_prompt_tokens: int
    num_blocks_out: int
    num_blocks_in: int


class PlainScheduler:
    """Paged memory under the authors' scheduler (paper, sections 4.3 to 4.5)."""

    def __init__(self, num_blocks: int, block_size: int, host_blocks: int, limits: Limits) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.limits = limits
        self.free = num_blocks
        self.host_free = host_blocks
        self.watermark = int(0.01 * num_blocks)
        self.waiting: list[Job] = []
        self.swapped: list[Job] = []
        self.running: list[Job] = []
        self._num_named = 0

    def add(self, job: Job) -> bool:
        """Queue a job, unless it could not even finish alone."""
        if self._fits_alone(job):
            self.waiting.append(job)
        return self._fits_alone(job)

    def _fits_alone(self, job: Job) -> bool:
        """In the worst case the sequences share nothing but full blocks of the prompt."""
        longest = self._num_blocks(job.prompt_len + job.output_len - 1)
        shared = min(job.prompt_len // self.block_size, longest)
        most = shared + job.n * (longest - shared)
        return job.n <= self.limits.max_num_seqs and most <= self.num_blocks - self.watermark

    def _num_blocks(self, length: int) -> int:
        return -(-length // self.block_size)

    def _take(self) -> int:
        self.free -= 1
        assert self.free >= 0
        self._num_named += 1
        return self._num_named

    @staticmethod
    def _num_sequences(jobs: Iterable[Job]) -> int:
        return sum(job.n for job in jobs)

    def step(self) -> Events:
        """One iteration. What it decides holds for the rest of it, and whoever has ended leaves."""
        self._events = Events([], [], [], [], [], [], 0, 0, 0, 0)
        decoding = self._grow()
        if not self._events.swapped_out:
            self._swap_in(decoding)
        decoding.sort(key=lambda job: job.number)
        prefilled = [] if self.swapped or self._events.recomputed else self._admit(decoding)
        self._events.decoding = [job.number for job in decoding for _ in range(job.n)]
        self._events.prefilled = [job.number for job in prefilled]
        self.running = sorted(decoding + prefilled, key=lambda job: job.number)
        for job in self.running:
            job.num_generated += 1
        for job in [job for job in self.running if job.num_generated == job.output_len]:
            self.running.remove(job)
            self.free += len(job.blocks)
        return self._events

    def _grow(self) -> list[Job]:
        """Oldest first; as many free blocks as sequences, or the newest loses everything."""
        grown: list[Job] = []
        pending, self.running = self.running, []
        while pending:
            job = pending.pop(0)
            while self.free < job.n and (pending or grown):
                victim = pending.pop() if pending else job
                self._preempt(victim, job)
                if victim is job:
                    break
            else:
                self._append(job)
                grown.append(job)
        return grown

    def _append(self, job: Job) -> None:
        """Room for one more token of each sequence; who shares the last block gets a copy."""
        for table in job.tables:
            if self._num_blocks(job.length) > len(table):
                table.append(self._take())
            elif sum(table[-1] in other for other in job.tables) > 1:
                table[-1] = self._take()
                self._events.num_copies += 1

    def _preempt(self, job: Job, cause: Job) -> None:
        self._events.preempted.append((job.number, cause.number, len(job.blocks)))
        wants_swap = self.limits.preemption == "swap" or (self.limits.preemption == "auto" and job.n > 1)
        self.free += len(job.blocks)
        if wants_swap and len(job.blocks) <= self.host_free:
            self.host_free -= len(job.blocks)
            self._events.swapped_out.append(job.number)
            self._events.num_blocks_out += len(job.blocks)
            self.swapped = sorted([*self.swapped, job], key=lambda job: job.number)
            return
        job.tables = []
        self._events.recomputed.append(job.number)
        self.waiting = sorted([*self.waiting, job], key=lambda job: job.number)

    def _swap_in(self, decoding: list[Job]) -> None:
        """The earliest first, with strict priority over who waits."""
        while self.swapped:
            job = self.swapped[0]
            if self._num_sequences(decoding) + job.n > self.limits.max_num_seqs:
                return
            needed = len(job.blocks)
            is_alone = not decoding
            if needed > self.free if is_alone else self.free - needed - job.n < self.watermark:
                return
            self.swapped.pop(0)
            self.host_free += len(job.blocks)
            self.free -= needed
            self._events.num_blocks_in += needed
            self._events.swapped_in.append(job.number)
            self._append(job)
            decoding.append(job)

    def _admit(self, decoding: list[Job]) -> list[Job]:
        """First come, first served; the first that does not fit holds back the others."""
        prefilled: list[Job] = []
        budget = self.limits.max_num_batched_tokens
        num_tokens = self._num_sequences(decoding)
        while self.waiting:
            job = self.waiting[0]
            common = self._common_len(job)
            num_own = common + job.n * (job.length - common)
            if self._num_sequences(decoding + prefilled) + job.n > self.limits.max_num_seqs:
                break
            if num_tokens + num_own > budget and prefilled:
                break
            num_common = self._num_blocks(common)
            tail = self._num_blocks(job.length) - num_common
            if self.free - num_common - job.n * tail < self.watermark:
                break
            shared = [self._take() for _ in range(num_common)]
            job.tables = [[*shared, *(self._take() for _ in range(tail))] for _ in range(job.n)]
            num_tokens += num_own
            self._events.num_prompt_tokens += num_own
            prefilled.append(self.waiting.pop(0))
        return prefilled

    def _common_len(self, job: Job) -> int:
        """What is computed once: all of a fresh prompt, the full blocks of one that is recomputed."""
        if not job.num_generated:
            return job.prompt_len
        return job.prompt_len // self.block_size * self.block_size
