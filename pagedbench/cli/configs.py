"""From what was typed to runs: --config under the flags, lists multiplied, idle options refused."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from pagedbench.cli.values import Value, Values, read_config
from pagedbench.config import LISTS, ConfigError, RunConfig, flag

if TYPE_CHECKING:
    from pagedbench.cli.options import Given

BATCHED_SYSTEM = "fastertransformer"
"""The system that --batch-size is for."""

PAGED_SYSTEM = "paged"
"""The system that preempts, swaps and finds prefixes."""

PAGED_OPTIONS = {"preemption": "auto", "swap_space": None, "prefix_caching": False}
"""Its options, and what they are without effect."""

RIVALS = {
    "num_requests": "duration",
    "duration": "num_requests",
    "kv_slots": "kv_memory",
    "kv_memory": "kv_slots",
    "n": "beam_width",
    "beam_width": "n",
}
"""A flag that replaces another option of the file, because the two exclude each other."""

IDLED: tuple[tuple[str, Value, str], ...] = (
    ("rate", math.inf, "duration"),
    ("preemption", "recompute", "swap_space"),
    ("shared_prefix_len", 0, "shared_prefix_groups"),
)
"""A flag, and the value with which it leaves another option of the file without effect."""


def run_configs(given: Given, *, default_systems: tuple[str, ...] = ("paged",)) -> list[RunConfig]:
    """Every run that was asked for, in the order of `LISTS`.

    Raises:
        ConfigError: a value is impossible, or an option would have no effect.
    """
    values = requested(given)
    values["system"] = _systems(values.get("system", default_systems))
    lists = [_distinct(name, values.pop(name, (getattr(RunConfig(), name),))) for name in LISTS]
    single: dict[str, Any] = {name: items[0] for name, items in values.items()}
    _refuse_idle(given.flags, systems=lists[LISTS.index("system")], single=single)
    configs = []
    for choice in itertools.product(*lists):
        fields = {**single, **dict(zip(LISTS, choice, strict=True))}
        configs.append(RunConfig(**_used(fields, is_one_of_several=len(lists[-1]) > 1)))
    return configs


def _used(fields: dict[str, Any], *, is_one_of_several: bool) -> dict[str, Any]:
    """The options without those that are for another run of the command.

    `is_one_of_several`: kinds of preemption, some of which may swap.
    """
    idle = set()
    if fields["system"] != BATCHED_SYSTEM:
        idle.add("batch_size")
    if fields["system"] != PAGED_SYSTEM:
        idle |= {"swap_space", "prefix_caching"}
    if fields["preemption"] == "recompute" and is_one_of_several:
        idle.add("swap_space")
    return {name: value for name, value in fields.items() if name not in idle}


def requested(given: Given) -> Values:
    """What was asked for: the file's options under the flags."""
    values = read_config(given.config) if given.config is not None else {}
    for name in given.flags:
        values.pop(RIVALS.get(name, ""), None)
    for name, value, idle in IDLED:
        if given.flags.get(name) == (value,):
            values.pop(idle, None)
    return {**values, **given.flags}


def _systems(names: tuple[Value, ...]) -> tuple[str, ...]:
    from pagedbench.systems import canonical_name

    return tuple(canonical_name(str(name)) for name in names)


def _distinct(name: str, items: tuple[Value, ...]) -> tuple[Value, ...]:
    for index, item in enumerate(items):
        if item in items[:index]:
            raise ConfigError(f"{flag(name)} names {item} twice: every run would be made twice")
    return items


def _refuse_idle(flags: Values, *, systems: tuple[Value, ...], single: dict[str, Any]) -> None:
    """Refuse flags that nothing would read; what a file says may be meant for other runs."""
    if "n" in flags and "beam_width" in flags:
        raise ConfigError("--n and --beam-width contradict each other: give one of the two")
    for name, neutral in PAGED_OPTIONS.items():
        is_asked = flags.get(name, (neutral,)) != (neutral,)
        may_preempt = name == "preemption" and "memory" in single  # a manager of the user's own
        if is_asked and PAGED_SYSTEM not in systems and not may_preempt:
            raise ConfigError(f"{flag(name)} has no effect without {PAGED_SYSTEM} among the systems")
    if "batch_size" in flags and BATCHED_SYSTEM not in systems:
        raise ConfigError(f"--batch-size has no effect without {BATCHED_SYSTEM} among the systems")
    if flags.get("prefill", ("mixed",)) != ("mixed",) and systems == (BATCHED_SYSTEM,):
        raise ConfigError(
            f"--prefill has no effect on {BATCHED_SYSTEM}, whose batches start with their prompts"
        )
    if "rate" in flags and flags.get("arrival") == ("trace",):
        raise ConfigError("--rate has no effect on --arrival trace, which uses the trace's own timestamps")
    if str(single.get("device", "auto")).startswith("sim:"):
        for name in ("warmup", "kernels"):
            if name in flags:
                raise ConfigError(f"{flag(name)} has no effect on a simulated device: nothing is computed")
