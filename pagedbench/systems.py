"""The table of systems: a system is a memory manager and a batching policy, and nothing else."""

from __future__ import annotations

import contextlib
import difflib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.config import DEFAULT_SYSTEM, ConfigError
from pagedbench.memory.contiguous import EqualExtents, MaxReservation, OracleReservation, Pow2Reservation
from pagedbench.memory.groups.hybrid import Hybrid
from pagedbench.memory.layer_group import ALL_LAYERS, equal_groups, has_windows
from pagedbench.memory.manager import KVManager
from pagedbench.memory.paged import Paged
from pagedbench.memory.pool_spec import PoolSpec
from pagedbench.memory.virtual.extents import VirtualExtents
from pagedbench.metrics.crash import crash_text
from pagedbench.own_classes import imported
from pagedbench.policies import check_chunks, eviction_policy, limits_of
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.request_level import RequestLevel
from pagedbench.scheduling.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pagedbench.config import RunConfig
    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.pages import PageSpec
    from pagedbench.scheduling.return_modes import ReturnCosts


@dataclass(frozen=True, slots=True)
class System:
    """One row: the memory manager, the batching policy, and both in words.

    Attributes:
        windowed: the manager for models with windows, which keeps layer groups apart; None: the same one.
        is_of_paper: is it one of the systems that the paper compares?
    """

    name: str
    manager: type[KVManager]
    scheduler: type[Scheduler]
    memory: str
    batching: str
    summary: str
    windowed: type[KVManager] | None = None
    is_of_paper: bool = True

    @property
    def attention(self) -> str:
        """The placements that attention reads: "paged" or "contiguous"."""
        return self.manager.attention

    def keeps_apart(self, kinds: tuple[LayerGroup, ...]) -> tuple[LayerGroup, ...]:
        """The layer groups of its manager, for a model with these kinds of layers."""
        is_grouped = self.windowed is not None and has_windows(kinds)
        return equal_groups(kinds) if is_grouped else (ALL_LAYERS,)

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
        windowed=Hybrid,
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
    System(
        "vattention", VirtualExtents, IterationLevel, "virtual extents, pages on demand",
        f"{_ITERATION}, preemption",
        "vAttention: contiguous addresses for the longest reply, memory page by page as it grows.",
        is_of_paper=False,
    ),
)  # fmt: skip

SYSTEMS = {system.name: system for system in _ROWS}
COMPARED = tuple(system.name for system in _ROWS if system.is_of_paper)
"""The systems that the paper compares; they run on any device."""
ALIASES = {"vllm": "paged", "ft": "fastertransformer"}
ATTENTIONS = ("paged", "contiguous")


def canonical_name(name: str) -> str:
    """The name of a row, from a name or an alias; `name=module:Class` stays unchanged.

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
        f"unknown system {name!r}: choose from {', '.join(SYSTEMS)}, or name your own class like "
        f"mine=module:Class{hint}"
    )


def _checked_name(name: str) -> str:
    """Check a user's name for a system, which stands in tables and in names of folders."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}", name):
        raise ConfigError(
            f"{name!r} cannot name a system: take letters and digits, as in mine=module:Class"
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
        found = imported("--system", name, KVManager, Scheduler)
        check_attention("--system", name, found)
        is_memory = issubclass(found, KVManager)
        if (memory if is_memory else batching) is not None:
            raise ConfigError(
                f"--{'memory' if is_memory else 'batching'} would replace {reference} of {own_name}: "
                "leave it out, and name that class in --system too"
            )
        memory, batching = (reference, batching) if is_memory else (memory, reference)
    if memory is not None:
        manager = imported("--memory", memory, KVManager)
        check_attention("--memory", memory, manager)
        system = replace(system, manager=manager, windowed=None, memory=memory)
        parts.append(manager.__name__)
    if batching is not None:
        scheduler = imported("--batching", batching, Scheduler)
        kept = [system.name] if memory is None and system.name != DEFAULT_SYSTEM else []
        parts += [*kept, scheduler.__name__]
        system = replace(system, scheduler=scheduler, batching=batching)
    if not parts:
        return system
    summary = f"memory: {system.memory}; batching: {system.batching}."
    return replace(system, name=own_name if reference else "+".join(parts), summary=summary)


def check_attention(option: str, reference: str, found: type) -> None:
    """Refuse a manager of the user's own whose placements attention cannot read."""
    if issubclass(found, KVManager) and getattr(found, "attention", None) not in ATTENTIONS:
        raise ConfigError(
            f"{option} {reference} does not say how attention finds tokens: set its `attention` to "
            '"paged" (its placements are block tables) or "contiguous" (extents)'
        )


def build_memory(
    config: RunConfig,
    num_slots: int,
    host_slots: int | None = None,
    tier_slots: tuple[int, int] = (0, 0),
    layer_groups: tuple[LayerGroup, ...] = (ALL_LAYERS,),
    pages: PageSpec | None = None,
) -> KVManager:
    """The memory manager of a resolved configuration, empty.

    Args:
        host_slots: tokens in the host pool of a system that swaps; as many as on the device if None.
        tier_slots: tokens on the host and on the disk for evicted blocks of prefixes.
        layer_groups: the groups that the manager keeps apart; all numbers are of slots,
            each of which has room for one token in the layers of one group.
        pages: the pages that the manager commits; None: pages of one block.

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
        eviction=eviction_policy(config),
        batch_size=config.batch_size or 1,
        host_cache_slots=tier_slots[0],
        disk_cache_slots=tier_slots[1],
        layer_groups=layer_groups,
        max_chunk_len=config.max_num_batched_tokens if config.prefill == "chunked" else None,
        pages=pages,
    )
    manager = (system.windowed or system.manager) if has_windows(layer_groups) else system.manager
    with _building(system, system.memory):
        return manager.build(pool)


def build_scheduler(config: RunConfig, memory: KVManager, costs: ReturnCosts | None = None) -> Scheduler:
    """The batching policy of a resolved configuration.

    Args:
        costs: what the return of a preempted group costs; None: the tokens that it computes again.

    Raises:
        ConfigError: it does not fit the manager, or the user's own scheduler cannot be built.
    """
    system = system_of(config.system, config.memory, config.batching)
    limits = limits_of(config, costs)
    check_chunks(config, limits, memory)
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


@contextlib.contextmanager
def _building(system: System, part: str) -> Iterator[None]:
    """Report a user's class that cannot be built as wrong input, not as a crash."""
    try:
        yield
    except Exception as error:
        if system.is_built_in:
            raise
        raise ConfigError(f"{system.name} ({part}) cannot be built: {crash_text(error)}") from error
