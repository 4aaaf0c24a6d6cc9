"""Entries: the policies that are compared on one workload, and what bounds them."""

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
"""Answers that know the future."""


class Bound(Enum):
    """What entries are measured against: rules that know the future, and a pool without pressure."""

    VICTIM = "victims with the shortest rest"
    EVICTION = "Belady's evictions"
    POOL = "unlimited pool"


@dataclass(frozen=True, slots=True)
class Entry:
    """Options that are run once a seed, and what they are a bound of, if they are one."""

    config: RunConfig
    bound: Bound | None = None


def entries_of(configs: Iterable[RunConfig], asked: Iterable[str]) -> list[Entry]:
    """The entries in the order of the table: of each workload and pool the asked ones, then the bounds.

    Args:
        configs: every combination of the lists that were typed.
        asked: options that were typed; without any question, each answer is tried beside the defaults.
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
    """What all policies of a comparison share: the options without the answers to the questions."""
    return replace(config, victim="latest", eviction="lru", admission="watermark", preemption="auto")


def _alternatives(config: RunConfig) -> list[RunConfig]:
    """The options as they are, and with every other answer that may change something, one at a time."""
    found = [config]
    for question, answers in QUESTIONS.items():
        others = [answer for answer in answers if answer != getattr(config, question)]
        found += [_with(config, question, answer) for answer in others if _matters(config, answer)]
    return found


def _with(config: RunConfig, question: str, answer: str) -> RunConfig:
    changed: dict[str, Any] = {question: answer}
    return replace(config, **changed)


def _matters(config: RunConfig, answer: str) -> bool:
    """Can the answer change anything? Those that know the future are bounds."""
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
    """Is there anything to ask? Systems that reserve memory for whole replies ask no questions."""
    return system_of(config.system, config.memory, config.batching).manager.preempts


def _bounds(config: RunConfig) -> Iterator[Entry]:
    if not _preempts(config):
        return
    yield Entry(replace(config, victim=VICTIM_ORACLE), Bound.VICTIM)
    if config.prefix_caching and config.is_simulated:
        yield Entry(replace(config, eviction=EVICTION_ORACLE), Bound.EVICTION)
