"""From options to runs: flags win over --config, lists multiply, options without effect are refused."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from pagedbench.config import DEFAULT_SYSTEM, FIELDS, ConfigError, RunConfig, flag, is_simulated
from pagedbench.option_values import LISTS, NO_RATE, OPTIONS_OF_ARRIVALS
from pagedbench.runs.values import Value, Values, read_config

if TYPE_CHECKING:
    from pagedbench.memory.manager import KVManager
    from pagedbench.runs.options import CommandOptions
    from pagedbench.systems import System

NEEDS = {
    "preemption": "preempts",
    "victim": "preempts",
    "admission": "preempts",
    "swap_space": "swaps",
    "prefix_caching": "caches_prefixes",
    "eviction": "caches_prefixes",
    "host_cache": "has_tiers",
    "disk_cache": "has_tiers",
    "watermark": "has_watermark",
    "page_size": "commits_pages",
    "commit_ahead": "commits_pages",
    "kept_pages": "commits_pages",
    "batch_size": "has_equal_extents",
}
"""Option -> the attribute that a memory manager must have set, or else the option has no effect."""

REAL_ONLY, SIMULATED_ONLY = ("warmup", "kernels", "load_format"), ("cost_model",)
"""Options for one kind of device. A run on the other kind ignores them if the list of devices has both."""

RIVALS = {
    "num_requests": "duration",
    "duration": "num_requests",
    "kv_slots": "kv_memory",
    "kv_memory": "kv_slots",
    "n": "beam_width",
    "beam_width": "n",
}
"""A flag removes the option of the file that it excludes."""

REMOVES: tuple[tuple[str, Value, str], ...] = (
    ("rate", math.inf, "duration"),
    ("preemption", "recompute", "swap_space"),
    ("shared_prefix_len", 0, "shared_prefix_groups"),
)
"""A flag with this value removes the other option of the file, which would have no effect."""


def run_configs(
    options: CommandOptions, *, default_systems: tuple[str, ...] = (DEFAULT_SYSTEM,)
) -> list[RunConfig]:
    """Every run that was asked for, in the order of `LISTS`.

    Raises:
        ConfigError: a value is impossible, or an option would have no effect.
    """
    from pagedbench.systems import canonical_name

    values = requested(options)
    asked = values.get("system", default_systems)
    values["system"] = tuple(canonical_name(str(name)) for name in asked)
    default = RunConfig()
    lists = {name: _distinct(name, values.pop(name, (getattr(default, name),))) for name in LISTS}
    single: dict[str, Any] = {name: items[0] for name, items in values.items()}
    systems = _systems(lists["system"], single)
    _refuse_without_effect(options.flags, list(systems.values()), lists["device"])
    if options.flags.get("eviction", ("lru",)) != ("lru",) and not any(lists["prefix_caching"]):
        raise ConfigError("--eviction has no effect without --prefix-caching: nothing is cached")
    configs = []
    for choice in itertools.product(*lists.values()):
        fields = {**single, **dict(zip(LISTS, choice, strict=True))}
        configs.append(RunConfig(**_effective(fields, systems[fields["system"]].manager, lists)))
    return list(dict.fromkeys(configs))  # some runs differ only in options that their systems ignore


def every_system(options: CommandOptions) -> tuple[str, ...]:
    """All systems on simulated devices; on real ones those of the paper, which run on any device."""
    from pagedbench.systems import COMPARED, SYSTEMS

    devices = requested(options).get("device", (RunConfig().device,))
    return tuple(SYSTEMS) if all(map(is_simulated, devices)) else COMPARED


def requested(options: CommandOptions, *, of_server: bool = False) -> Values:
    """The flags, and the options of the file that they leave in place; see `read_config`."""
    values = {} if options.config is None else read_config(options.config, of_server=of_server)
    for name in options.flags:
        values.pop(RIVALS.get(name, ""), None)
    for name, value, other in REMOVES:
        if options.flags.get(name) == (value,):
            values.pop(other, None)
    return {**values, **options.flags}


def _distinct(name: str, items: tuple[Value, ...]) -> tuple[Value, ...]:
    for index, item in enumerate(items):
        if item in items[:index]:
            raise ConfigError(f"{flag(name)} names {item} twice: every run would be made twice")
    return items


def _systems(names: tuple[Value, ...], single: dict[str, Any]) -> dict[Value, System]:
    """The systems by what was typed; each must have its own name in tables."""
    from pagedbench.systems import system_of

    systems: dict[Value, System] = {}
    for name in names:
        system = system_of(str(name), single.get("memory"), single.get("batching"))
        for other, known in systems.items():
            if known.name == system.name:
                raise ConfigError(
                    f"{other} and {name} would both be called {system.name}: give only one of them, or "
                    "name your own class, as in --system paged,mine=module:Class"
                )
        systems[name] = system
    return systems


def _effective(fields: dict[str, Any], manager: type[KVManager], lists: Values) -> dict[str, Any]:
    """The options of one run, without those that only other runs of the command use."""
    unused = {name for name, ability in NEEDS.items() if not getattr(manager, ability)} - {"preemption"}
    if manager.has_equal_extents:
        unused.add("prefill")
    if not fields["prefix_caching"]:
        unused.add("eviction")
    if fields["preemption"] == "recompute" and len(lists["preemption"]) > 1:
        unused.add("swap_space")
    if not fields["prefix_caching"] and len(lists["prefix_caching"]) > 1:
        unused |= {"host_cache", "disk_cache", "disk_cache_dir"}
    if len({is_simulated(device) for device in lists["device"]}) > 1:
        unused |= {*(REAL_ONLY if is_simulated(fields["device"]) else SIMULATED_ONLY)}
    if len(lists["arrival"]) > 1:
        arrival = fields["arrival"]
        unused |= {name for name, kind in OPTIONS_OF_ARRIVALS.items() if kind != arrival}
        unused |= {"rate"} if arrival in NO_RATE else set()
        unused |= {"burstiness"} if arrival != "gamma" else set()
        unused |= {"duration"} if arrival == "closed" else set()
    return {name: value for name, value in fields.items() if name not in unused}


def _refuse_without_effect(flags: Values, systems: list[System], devices: tuple[Value, ...]) -> None:
    """Refuse flags that no run would read. Options of a file may be meant for other runs."""
    if "n" in flags and "beam_width" in flags:
        raise ConfigError("--n and --beam-width contradict each other: give one of the two")
    for name, ability in NEEDS.items():
        is_asked = flags.get(name, (FIELDS[name].default,)) != (FIELDS[name].default,)
        if is_asked and not any(getattr(system.manager, ability) for system in systems):
            raise ConfigError(_needs_sentence(name, ability))
    is_request_level = all(system.manager.has_equal_extents for system in systems)
    if is_request_level and flags.get("prefill", ("mixed",)) != ("mixed",):
        raise ConfigError(
            "--prefill has no effect on request-level batches, which start with their prompts"
        )
    arrivals = flags.get("arrival", ("poisson",))
    if "rate" in flags and set(arrivals) <= set(NO_RATE):
        reason = "uses the trace's own timestamps" if "trace" in arrivals else "follows replies"
        raise ConfigError(f"--rate has no effect on --arrival {arrivals[0]}, which {reason}")
    if all(is_simulated(device) for device in devices):
        for name in ("warmup", "kernels"):
            if name in flags:
                raise ConfigError(f"{flag(name)} has no effect on a simulated device: nothing is computed")


def _needs_sentence(name: str, ability: str) -> str:
    from pagedbench.systems import SYSTEMS

    able = " or ".join(system.name for system in SYSTEMS.values() if getattr(system.manager, ability))
    return (
        f"{flag(name)} has no effect without {able} among the systems, or your own manager with "
        f"{ability} = True"
    )
