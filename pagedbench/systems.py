"""The table of systems: a system is a memory manager and a batching policy, and nothing else."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import os
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pagedbench.config import DEFAULT_SYSTEM, ConfigError
from pagedbench.memory.contiguous import EqualExtents, MaxReservation, OracleReservation, Pow2Reservation
from pagedbench.memory.manager import KVManager, PoolSpec
from pagedbench.memory.paged import Paged
from pagedbench.metrics.crash import crash_text
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.request_level import RequestLevel
from pagedbench.scheduling.scheduler import Limits, Scheduler
from pagedbench.scheduling.victims import VICTIMS, VictimPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagedbench.config import RunConfig


@dataclass(frozen=True, slots=True)
class System:
    """One row: the memory manager, the batching policy, and both in words."""

    name: str
    manager: type[KVManager]
    scheduler: type[Scheduler]
    memory: str
    batching: str
    summary: str

    @property
    def attention(self) -> str:
        """The placements that attention reads: "paged" or "contiguous"."""
        return self.manager.attention

    @property
    def is_request_level(self) -> bool:
        """Does a batch run until its last request has ended?"""
        return issubclass(self.scheduler, RequestLevel)

    @property
    def is_built_in(self) -> bool:
        """Is it a row of the table, without classes of the user?"""
        return SYSTEMS.get(self.name) == self


_ITERATION = "iteration-level"
_ROWS = (
    System(
        "paged", Paged, IterationLevel, "blocks on demand", f"{_ITERATION}, preemption",
        "vLLM: small blocks, taken one by one as the reply grows.",
    ),
    System(
        "orca-oracle", OracleReservation, IterationLevel, "contiguous, true length", _ITERATION,
        "Orca if it knew every output length: the upper bound of reservation.",
    ),
    System(
        "orca-pow2", Pow2Reservation, IterationLevel, "contiguous, next power of 2", _ITERATION,
        "Orca reserving at most twice the output.",
    ),
    System(
        "orca-max", MaxReservation, IterationLevel, "contiguous, maximum length", _ITERATION,
        "Orca as it can be built: reserves whatever the model could still produce.",
    ),
    System(
        "fastertransformer", EqualExtents, RequestLevel, "B equal extents", "request-level, padded",
        "FasterTransformer: a batch of maximum-length extents, closed until its last request ends.",
    ),
)  # fmt: skip

SYSTEMS = {system.name: system for system in _ROWS}
ALIASES = {"vllm": "paged", "ft": "fastertransformer"}
ATTENTIONS = ("paged", "contiguous")

_CLASSES: dict[str, type] = {}
"""Classes that were passed as objects, by reference."""


def canonical_name(name: str) -> str:
    """The name of a row, from a name or an alias; `name=module:Class` stays as it is.

    Raises:
        ConfigError: there is no such system.
    """
    own, is_own, reference = name.partition("=")
    if is_own and reference.strip():
        return f"{_checked_name(own.strip())}={reference.strip()}"
    known = ALIASES.get(name, name)
    if known in SYSTEMS:
        return known
    close = difflib.get_close_matches(name, [*SYSTEMS, *ALIASES], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ConfigError(
        f"unknown system {name!r}: choose from {', '.join(SYSTEMS)}, or name a class of your own like "
        f"mine=module:Class{hint}"
    )


def _checked_name(name: str) -> str:
    """Check a user's name for a system, which stands in tables and in names of folders."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}", name):
        raise ConfigError(
            f"{name!r} cannot name a system of your own: take letters and digits, as in mine=module:Class"
        )
    if name in SYSTEMS or name in ALIASES:
        raise ConfigError(f"{name} is a built-in system: give your own another name, as in my-{name}=...")
    return name


def system_of(name: str, memory: str | None = None, batching: str | None = None) -> System:
    """The row of a system: a built-in one, or one with classes of the user, named after them.

    Args:
        name: canonical. `mine=module:Class` is the default system with this manager or scheduler.
        memory, batching: `module:Class` that replaces the manager or the scheduler.

    Raises:
        ConfigError: a class cannot be imported, or is of the wrong kind.
    """
    own_name, _, reference = name.partition("=")
    system = SYSTEMS[DEFAULT_SYSTEM if reference else name]
    parts = []
    if reference:
        found = _imported("--system", name, KVManager, Scheduler)
        is_memory = issubclass(found, KVManager)
        if (memory if is_memory else batching) is not None:
            raise ConfigError(
                f"--{'memory' if is_memory else 'batching'} would replace {reference} of {own_name}: "
                "leave it out, and name that class in --system too"
            )
        memory, batching = (reference, batching) if is_memory else (memory, reference)
    if memory is not None:
        manager = _imported("--memory", memory, KVManager)
        system = replace(system, manager=manager, memory=memory)
        parts.append(manager.__name__)
    if batching is not None:
        scheduler = _imported("--batching", batching, Scheduler)
        kept = [system.name] if memory is None and system.name != DEFAULT_SYSTEM else []
        parts += [*kept, scheduler.__name__]
        system = replace(system, scheduler=scheduler, batching=batching)
    if not parts:
        return system
    summary = f"memory: {system.memory}; batching: {system.batching}."
    return replace(system, name=own_name if reference else "+".join(parts), summary=summary)


def build_memory(
    config: RunConfig,
    num_slots: int,
    host_slots: int | None = None,
    tier_slots: tuple[int, int] = (0, 0),
) -> KVManager:
    """The memory manager of a resolved configuration, empty.

    Args:
        host_slots: tokens in the host pool of a system that swaps; as many as on the device if None.
        tier_slots: tokens on the host and on the disk for evicted blocks of prefixes.

    Raises:
        ConfigError: the user's own manager cannot be built.
    """
    assert config.max_model_len is not None, "the configuration is not resolved"
    system = system_of(config.system, config.memory, config.batching)
    pool = PoolSpec(
        num_slots,
        config.block_size,
        config.max_model_len,
        host_slots=host_slots,
        prefix_caching=config.prefix_caching,
        watermark=config.watermark,
        batch_size=config.batch_size or 1,
        host_cache_slots=tier_slots[0],
        disk_cache_slots=tier_slots[1],
    )
    with _building(system, system.memory):
        return system.manager.build(pool)


def build_scheduler(config: RunConfig, memory: KVManager) -> Scheduler:
    """The batching policy of a resolved configuration.

    Raises:
        ConfigError: it does not fit the manager, or the user's own scheduler cannot be built.
    """
    system = system_of(config.system, config.memory, config.batching)
    limits = Limits(
        config.max_num_seqs,
        config.max_num_batched_tokens,
        config.prefill,
        config.preemption,
        _victim_policy(config.victim),
    )
    if system.is_request_level and not memory.has_equal_extents:
        raise ConfigError(
            f"{system.scheduler.__name__} needs equal extents, which {type(memory).__name__} does not "
            "give: leave out --memory, and take --system fastertransformer, with --batching for your own"
        )
    if memory.tiers is not None and not issubclass(system.scheduler, IterationLevel):
        raise ConfigError(
            "--host-cache and --disk-cache need iteration-level batching: "
            f"{system.scheduler.__name__} moves no evicted blocks"
        )
    with _building(system, system.batching):
        return system.scheduler(memory, limits)


def _victim_policy(name: str) -> VictimPolicy:
    """A policy by its name, or one of the user's own.

    Raises:
        ConfigError: there is no such policy, or it cannot be built.
    """
    if ":" not in name:
        if name in VICTIMS:
            return VICTIMS[name]()
        close = difflib.get_close_matches(name, VICTIMS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"unknown --victim {name!r}: choose from {', '.join(VICTIMS)}, or name a class of your own "
            f"like module:Class{hint}"
        )
    try:
        policy: VictimPolicy = _imported("--victim", name, VictimPolicy)()
    except TypeError as error:
        raise ConfigError(f"--victim {name} cannot be built: {crash_text(error)}") from error
    return policy


@contextlib.contextmanager
def _building(system: System, part: str) -> Iterator[None]:
    """In this context, a user's class that cannot be built is wrong input, not a crash."""
    try:
        yield
    except Exception as error:
        if system.is_built_in:
            raise
        raise ConfigError(f"{system.name} ({part}) cannot be built: {crash_text(error)}") from error


def reference_to(own: type) -> str:
    """`module:Class` of a class of the user's own, which may be defined in a notebook or a function."""
    reference = f"{own.__module__}:{own.__qualname__}"
    _CLASSES[reference] = own
    return reference


def _imported(option: str, reference: str, *kinds: type) -> Any:
    """The class of `module:Class` or `name=module:Class`; the module may lie in the current folder."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    path = reference.rpartition("=")[2]
    module_name, _, class_name = path.partition(":")
    try:
        found = _CLASSES.get(path) or getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, TypeError, ValueError, SyntaxError) as error:
        raise ConfigError(f"{option} {reference} cannot be imported as module:Class: {error}") from error
    if not (isinstance(found, type) and issubclass(found, kinds)):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError(f"{option} {reference} is not a subclass of pagedbench's {names}")
    if inspect.isabstract(found):
        raise ConfigError(f"{option} {reference} is abstract: name a class that defines every method")
    if issubclass(found, KVManager) and getattr(found, "attention", None) not in ATTENTIONS:
        raise ConfigError(
            f"{option} {reference} does not say how attention finds tokens: set its `attention` to "
            '"paged" (its placements are block tables) or "contiguous" (extents)'
        )
    return found
