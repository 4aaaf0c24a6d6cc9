"""A scheduler whose prompts are computed in chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.scheduling.iteration_level import IterationLevel

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager
    from pagedbench.request import SequenceGroup
    from pagedbench.scheduling.scheduler import Limits


class InChunks(IterationLevel):
    """Each iteration computes at most `max_chunk` tokens of every prompt."""

    def __init__(self, memory: KVManager, limits: Limits, max_chunk: int) -> None:
        super().__init__(memory, limits)
        self.max_chunk = max_chunk

    def chunk_len(self, group: SequenceGroup, num_tokens: int) -> int:
        return self.max_chunk
