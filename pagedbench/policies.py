"""Policies by the names of their options: victims, evictions and admissions, or the user's own classes."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, TypeVar

from pagedbench.config import ConfigError
from pagedbench.memory.eviction import EvictionPolicy
from pagedbench.memory.evictions import EVICTIONS, ttl_of
from pagedbench.metrics.crash import crash_text
from pagedbench.own_classes import imported
from pagedbench.scheduling.admission import ADMISSIONS, AdmissionPolicy
from pagedbench.scheduling.return_modes import CountedTokens
from pagedbench.scheduling.scheduler import Limits
from pagedbench.scheduling.victims import VICTIMS, VictimPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagedbench.config import RunConfig
    from pagedbench.memory.manager import KVManager
    from pagedbench.scheduling.return_modes import ReturnCosts

PolicyT = TypeVar("PolicyT")


def limits_of(config: RunConfig, costs: ReturnCosts | None) -> Limits:
    """The limits of an iteration, and the policies of the scheduler.

    Raises:
        ConfigError: there is no such policy, or it cannot be built.
    """
    return Limits(
        config.max_num_seqs,
        config.max_num_batched_tokens,
        config.prefill,
        config.preemption,
        policy_of("--victim", config.victim, VICTIMS, VictimPolicy),
        policy_of("--admission", config.admission, ADMISSIONS, AdmissionPolicy),
        costs or CountedTokens(),
        config.prefill_chunk_size,
    )


def check_chunks(config: RunConfig, limits: Limits, memory: KVManager) -> None:
    """Refuse an admission by chunks of prompts where prompts have none.

    Raises:
        ConfigError: prompts are computed whole, or take their memory at once.
    """
    if not limits.admission.admits_chunks:
        return
    if config.prefill != "chunked":
        raise ConfigError(
            f"--admission {config.admission} has no effect without --prefill chunked: no prompt has chunks"
        )
    if not memory.takes_chunks:
        raise ConfigError(
            f"--admission {config.admission} needs a manager whose prompts take memory in chunks, which "
            f"{type(memory).__name__} does not: leave it out"
        )


def eviction_policy(config: RunConfig) -> EvictionPolicy | None:
    """The policy of the prefix cache; None: the default, or there is no cache.

    Raises:
        ConfigError: there is no such policy, it cannot be built, or it needs an unknown future.
    """
    if not config.prefix_caching or config.eviction == next(iter(EVICTIONS)):
        return None
    try:
        policy: EvictionPolicy | None = ttl_of(config.eviction)
    except ValueError as error:
        raise ConfigError(f"--eviction cannot be read: {error}") from None
    policy = policy or policy_of("--eviction", config.eviction, EVICTIONS, EvictionPolicy)
    if policy.sees_future and not config.is_simulated:
        raise ConfigError(
            f"--eviction {config.eviction} sees the future, which only a simulation knows: take another "
            "policy, or a simulated --device, such as sim:a100-40gb"
        )
    return policy


def policy_of(
    option: str, name: str, known: Mapping[str, type[PolicyT]], kind: type, *arguments: object
) -> PolicyT:
    """A policy by its name, or one of the user's own, built with these arguments.

    Raises:
        ConfigError: there is no such policy, or it cannot be built.
    """
    if ":" not in name:
        if name in known:
            return known[name](*arguments)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"unknown {option} {name!r}: choose from {', '.join(known)}, or name your own class "
            f"like module:Class{hint}"
        )
    try:
        policy: PolicyT = imported(option, name, kind)(*arguments)
    except TypeError as error:
        raise ConfigError(f"{option} {name} cannot be built: {crash_text(error)}") from error
    return policy
