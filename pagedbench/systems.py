"""THE TABLE: a system is a memory manager and a batching policy, and nothing else."""

from __future__ import annotations

import difflib
import importlib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pagedbench.config import ConfigError
from pagedbench.memory.contiguous import EqualExtents, MaxReservation, OracleReservation, Pow2Reservation
from pagedbench.memory.manager import KVManager
from pagedbench.memory.paged import Paged
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.request_level import RequestLevel
from pagedbench.scheduling.scheduler import Limits, Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.config import RunConfig
    from pagedbench.prompt import Prompt


@dataclass(frozen=True, slots=True)
class System:
    """One row: where keys and values live, who runs next, and both in words."""

    name: str
    manager: type[KVManager]
    scheduler: type[Scheduler]
    memory: str
    batching: str
    summary: str

    @property
    def attention(self) -> str:
        """How attention finds tokens: "paged" or "contiguous"."""
        return self.manager.attention


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


def canonical_name(name: str) -> str:
    """The name of a row, from a name or an alias.

    Raises:
        ConfigError: there is no such system.
    """
    known = ALIASES.get(name, name)
    if known in SYSTEMS:
        return known
    close = difflib.get_close_matches(name, [*SYSTEMS, *ALIASES], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ConfigError(f"unknown system {name!r}: choose from {', '.join(SYSTEMS)}{hint}")


def build_memory(config: RunConfig, num_slots: int, host_slots: int | None = None) -> KVManager:
    """The memory manager of a resolved configuration, empty.

    Args:
        host_slots: tokens in the host pool of a system that swaps; as many as on the device if None.
    """
    max_model_len = config.max_model_len
    assert max_model_len is not None, "the configuration is not resolved"
    manager: Any = SYSTEMS[config.system].manager
    if config.memory is not None:
        manager = _imported("--memory", config.memory, KVManager)
    if manager is EqualExtents:
        return EqualExtents(num_slots, config.block_size, max_model_len, config.batch_size or 1)
    if manager is Paged:
        return Paged(
            num_slots,
            config.block_size,
            max_model_len,
            host_slots=host_slots,
            prefix_caching=config.prefix_caching,
        )
    built = manager(num_slots, config.block_size, max_model_len)
    assert isinstance(built, KVManager)
    return built


def build_scheduler(config: RunConfig, memory: KVManager) -> Scheduler:
    """The batching policy of a resolved configuration."""
    limits = Limits(config.max_num_seqs, config.max_num_batched_tokens, config.prefill, config.preemption)
    policy = SYSTEMS[config.system].scheduler
    if config.batching is not None:
        policy = _imported("--batching", config.batching, Scheduler)
    if issubclass(policy, RequestLevel) and not isinstance(memory, EqualExtents):
        raise ConfigError(
            f"{policy.__name__} needs equal extents, which {type(memory).__name__} does not give: "
            "leave out --memory, and take --system fastertransformer"
        )
    return policy(memory, limits)


def register_prefixes(memory: KVManager, prefixes: Iterable[Prompt]) -> None:
    """Pin beginnings that prompts share (paper, section 4.4); contiguous managers have no such thing."""
    if isinstance(memory, Paged):
        for prefix in prefixes:
            memory.register_prefix(prefix)


def _imported(option: str, reference: str, kind: type) -> Any:
    """The class that a user's `module:Class` names."""
    module_name, _, class_name = reference.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{option} {reference} cannot be imported as module:Class: {error}") from error
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ConfigError(f"{option} {reference} is not a subclass of pagedbench's {kind.__name__}")
    if inspect.isabstract(found):
        raise ConfigError(f"{option} {reference} is abstract: name a class that defines every method")
    return found
