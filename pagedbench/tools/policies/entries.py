"""Entries: the policies that are compared on one workload, and their bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from pagedbench.memory.evictions import EVICTIONS
from pagedbench.scheduling.admission import ADMISSIONS
from pagedbench.scheduling.return_modes import RETURN_MODES
from pagedbench.scheduling.victims import VICTIMS
from pagedbench.systems import system_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pagedbench.config import RunConfig

QUESTIONS: dict[str, tuple[str, ...]] = {
    "victim": tuple(VICTIMS),
    "eviction": tuple(EVICTIONS),
    "admission": tuple(ADMISSIONS),
    "preemption": tuple(RETURN_MODES),
}
"""Options that answer a question of the scheduler or the memory manager, and their answers."""

VICTIM_ORACLE, EVICTION_ORACLE = "oracle-shortest-left", "belady"
"""Answers that need to know the future."""


class Bound(Enum):
    """What entries are compared with: rules that know the future, and a pool without memory pressure."""

    VICTIM = "victims with the shortest rest"
    EVICTION = "Belady's evictions"
    POOL = "unlimited pool"


@dataclass(frozen=True, slots=True)
class Entry:
    """Options that are run once per seed, and which bound they are, if they are one."""

    config: RunConfig
    bound: Bound | None = None


def entries_of(configs: Iterable[RunConfig], asked: Iterable[str]) -> list[Entry]:
    """The entries in the order of the table: for each workload and pool the asked ones, then the bounds.

    Args:
        configs: every combination of the lists on the command line.
        asked: the options on the command line; if no question is among them, each answer is tried with the
            defaults of the others.
    """
    named = set(asked) & set(QUESTIONS)
    groups: dict[RunConfig, list[RunConfig]] = {}
    for config in configs:
        own = [config] if named else _alternatives(config)
        groups.setdefault(setting_of(config), []).extend(own)
    entries = []
    for members in groups.values():
        bounds = {entry.config: entry for entry in _bounds(members[0])}
        entries += [bounds.pop(config, Entry(config)) for config in dict.fromkeys(members)]
        entries += [*bounds.values(), Entry(members[0], Bound.POOL)]
    return entries


def setting_of(config: RunConfig) -> RunConfig:
    """The options that all policies of a comparison share: all except the answers to the questions."""
    return replace(config, victim="latest", eviction="lru", admission="watermark", preemption="auto")


def _alternatives(config: RunConfig) -> list[RunConfig]:
    """The options themselves, and variants with one other answer each that may change something."""
    found = [config]
    for question, answers in QUESTIONS.items():
        others = [answer for answer in answers if answer != getattr(config, question)]
        found += [_with(config, question, answer) for answer in others if _matters(config, answer)]
    return found


def _with(config: RunConfig, question: str, answer: str) -> RunConfig:
    changed: dict[str, Any] = {question: answer}
    return replace(config, **changed)


def _matters(config: RunConfig, answer: str) -> bool:
    """Can the answer change anything? Answers that know the future are bounds instead."""
    if not _preempts(config):
        return False
    if answer in EVICTIONS and not config.prefix_caching:
        return False
    if answer == "prompt-first-chunk":
        return config.prefill == "chunked"
    if answer == "recompute":
        return config.width > 1
    return answer not in (VICTIM_ORACLE, EVICTION_ORACLE)


def _preempts(config: RunConfig) -> bool:
    """Does the system preempt? Systems that reserve memory for whole replies never do."""
    return system_of(config.system, config.memory, config.batching).manager.preempts


def _bounds(config: RunConfig) -> Iterator[Entry]:
    if not _preempts(config):
        return
    yield Entry(replace(config, victim=VICTIM_ORACLE), Bound.VICTIM)
    if config.prefix_caching and config.is_simulated:
        yield Entry(replace(config, eviction=EVICTION_ORACLE), Bound.EVICTION)
