"""Admission policies: whether the head of the queue may begin, for which memory has room."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Collection

    from pagedbench.memory.manager import KVManager
    from pagedbench.request import SequenceGroup


class AdmissionPolicy(ABC):
    """Answers the question of `--admission`. A policy of one's own is built as `Class()`."""

    admits_parts: ClassVar[bool] = False
    """Room for a prompt's first part is enough (`--prefill chunked`); later parts look for their own."""

    @abstractmethod
    def admits(self, head: SequenceGroup, running: Collection[SequenceGroup], memory: KVManager) -> bool:
        """May the head begin beside the groups that run?

        Asked when memory has room for it. When no group runs, the head begins without being asked for, so
        that no request waits forever.
        """


class Watermark(AdmissionPolicy):
    """Whoever fits now: the paper's rule. The manager leaves a share of its blocks free (--watermark)."""

    def admits(self, head: SequenceGroup, running: Collection[SequenceGroup], memory: KVManager) -> bool:
        return True


class Reserve(AdmissionPolicy):
    """Only who is sure to finish: memory would hold the longest replies of all that run, and the head's.

    Memory is reserved in number alone and taken as replies grow. So nobody is preempted, and fewer run.
    """

    def admits(self, head: SequenceGroup, running: Collection[SequenceGroup], memory: KVManager) -> bool:
        return memory.can_finish([*running, head])


class PromptFirstChunk(Watermark):
    """Whose first part of the prompt fits now, however long the rest is."""

    admits_parts: ClassVar[bool] = True


ADMISSIONS: dict[str, type[AdmissionPolicy]] = {
    "watermark": Watermark,
    "reserve": Reserve,
    "prompt-first-chunk": PromptFirstChunk,
}
"""The policies by the names of `--admission`, the default first."""
