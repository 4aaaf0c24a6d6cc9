"""Admission policies: whether the head of the queue may begin, for which memory has room."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Collection

    from pagedbench.memory.manager import KVManager
    from pagedbench.request import SequenceGroup


class AdmissionPolicy(ABC):
    """Decides `--admission`: which requests may begin. Your own policy is built as `Class()`."""

    admits_chunks: ClassVar[bool] = False
    """Room for a prompt's first chunk is enough (`--prefill chunked`); later chunks wait for theirs."""

    @abstractmethod
    def admits(self, head: SequenceGroup, running: Collection[SequenceGroup], memory: KVManager) -> bool:
        """May the head of the queue begin while these groups run?

        Asked when memory has room for it. If no group runs, the head begins without this question, so that
        no request waits forever.
        """


class Watermark(AdmissionPolicy):
    """Admit what fits now: the paper's rule. The manager keeps a share of its blocks free (--watermark)."""

    def admits(self, head: SequenceGroup, running: Collection[SequenceGroup], memory: KVManager) -> bool:
        return True


class Reserve(AdmissionPolicy):
    """Admit requests that are sure to finish: the longest replies of all running groups and the head fit.

    Memory is only counted as reserved, and taken as replies grow: no request is preempted, and fewer run.
    """

    def admits(self, head: SequenceGroup, running: Collection[SequenceGroup], memory: KVManager) -> bool:
        return memory.can_finish([*running, head])


class PromptFirstChunk(Watermark):
    """Admit requests whose first chunk of the prompt fits now, however long the rest is."""

    admits_chunks: ClassVar[bool] = True


ADMISSIONS: dict[str, type[AdmissionPolicy]] = {
    "watermark": Watermark,
    "reserve": Reserve,
    "prompt-first-chunk": PromptFirstChunk,
}
"""The policies by the names of `--admission`, the default first."""
