"""The options of `run` and `compare`, generated from the fields of RunConfig, their one description."""

from __future__ import annotations

import functools
import inspect
import itertools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pagedbench.config import FIELDS, LISTS, ConfigError, flag, plain
from pagedbench.runs.values import SWITCH_WORDS, Values, parse_text, value_type

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Items

CHOICES = {"format": ("rich", "json", "csv", "md"), "progress": ("auto", "rich", "plain", "none")}
"""Delivery options with a closed set of values; those of RunConfig's are checked there."""

PANELS = {
    "Workload": "trace tokenizer rate arrival time_scale burstiness num_requests duration chat "
    "shared_prefix_len shared_prefix_groups warmup seed",
    "Decoding": "n beam_width temperature top_p top_k",
    "Model and device": "model load_format device cost_model dtype kernels tensor_parallel_size",
    "Memory and scheduling": "kv_slots kv_memory gpu_memory_utilization block_size max_model_len "
    "max_num_seqs max_num_batched_tokens batch_size memory batching preemption swap_space prefix_caching "
    "prefill",
}
"""Headings of the help page; what stands in none of them is listed first."""


@dataclass(frozen=True, slots=True)
class Given:
    """What was typed: the fields of RunConfig as flags, and how the results are delivered."""

    flags: Values
    config: Path | None = None
    output: Path | None = None
    force: bool = False
    save_outputs: bool = False
    strict: bool = False
    format: str = "rich"
    progress: str = "auto"
    dry_run: bool = False

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{flag(name)} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.force and self.output is None:
            raise ConfigError(
                "--force has no effect without --output: a folder of its own is never in the way"
            )


_DELIVERY_HELP = {
    "config": "Options from a TOML file; flags win.",
    "output": "Write the run folder exactly here; several runs: one subfolder each.",
    "force": "Replace what --output holds.",
    "save_outputs": "Also write outputs.jsonl.",
    "strict": "Exit with 5 if a run is invalid, or was starved by other programs.",
    "format": f"What stdout shows: {', '.join(CHOICES['format'])}.",
    "progress": f"{', '.join(CHOICES['progress'])}.",
    "dry_run": "Print the resolved plan and stop.",
}


def takes_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a function of `Given` into a command with an option for every field of RunConfig.

    Further parameters of the function, which name themselves, are options of the command's own.
    """
    _, *others = inspect.signature(command, eval_str=True).parameters.values()
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in others]

    def wrapper(**arguments: Any) -> None:
        flags: Values = {}
        for name in FIELDS:
            for spelling in (name, *_other_names(name)):
                value = arguments.pop(spelling)
                if value is not None and name in flags:
                    raise ConfigError(f"{flag(name)} is given twice, under two of its names")
                if value is not None:
                    is_off = spelling == f"no_{name}"
                    flags[name] = (not is_off,) if value is True else parse_text(name, value)
        for name in ("config", "output"):
            if arguments[name] is not None:  # a shell leaves the ~ of --output=~/here
                arguments[name] = arguments[name].expanduser()
        rest = {parameter.name: arguments.pop(parameter.name) for parameter in own}
        command(Given(flags=flags, **arguments), **rest)

    functools.update_wrapper(wrapper, command)
    parameters = [parameter for name in FIELDS for parameter in _field_parameters(name)]
    parameters += [*own, *_delivery_parameters()]
    vars(wrapper)["__signature__"] = inspect.Signature(parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def with_switch_values(arguments: Items[str]) -> list[str]:
    """Arguments in which a switch that takes lists (--prefix-caching on,off) has a value: "on" if none."""
    switches = {flag(name) for name in LISTS if value_type(name) == "bool"}
    spelled = []
    for word, after in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        spelled.append(word)
        if word in switches and not set(after.split(",")) <= {*SWITCH_WORDS}:
            spelled.append("on")
    return spelled


def _field_parameters(name: str) -> list[inspect.Parameter]:
    """Options that take text, so that every message about a value is our own; most switches take nothing.

    An alias is an option by itself, named in the help of the first one: the page shows one name a line.
    So is what turns a switch off that a file turns on.
    """
    field, is_switch = FIELDS[name], value_type(name) == "bool"
    is_plain = is_switch and name not in LISTS
    aliases = field.metadata["aliases"]
    notes = [f"also {' and '.join(aliases)}"] if aliases else []
    notes += [] if field.default is None else [f"default: {plain(field.default)}"]
    option = typer.Option(
        None,
        flag(name),
        help=_escape(" ".join([field.metadata["help"], *(f"[{note}]" for note in notes)])),
        metavar=None if is_plain else field.metadata["metavar"] or _metavar(name),
        show_default=False,
        rich_help_panel=next((panel for panel, names in PANELS.items() if name in names.split()), None),
    )
    spellings = [f"--no-{flag(name)[2:]}"] if is_switch else aliases
    hidden = [typer.Option(None, spelling, hidden=True) for spelling in spellings]
    kinds = [bool | None if is_plain else str | None]
    kinds += [bool | None if is_switch else str | None] * len(hidden)
    names = (name, *_other_names(name))
    return [_parameter(*parts) for parts in zip(names, (option, *hidden), kinds, strict=True)]


def _other_names(name: str) -> list[str]:
    """What the aliases of a field, or the opposite of a switch, are called as parameters of a function."""
    if value_type(name) == "bool":
        return [f"no_{name}"]
    return [
        f"{name}_as_{alias.lstrip('-').replace('-', '_')}" for alias in FIELDS[name].metadata["aliases"]
    ]


def _delivery_parameters() -> list[inspect.Parameter]:
    parameters = []
    for field in fields(Given):
        if field.name == "flags":
            continue
        option = typer.Option(
            field.default,
            flag(field.name),
            help=_DELIVERY_HELP[field.name],
            metavar="TEXT" if field.name in CHOICES else None,
            rich_help_panel="Results",
        )
        kind = Path | None if field.default is None else type(field.default)
        parameters.append(_parameter(field.name, option, kind))
    return parameters


def _parameter(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _metavar(name: str) -> str:
    word = {"int": "INTEGER", "float": "NUMBER", "str": "TEXT", "bool": "on|off"}[value_type(name)]
    return f"{word}[,...]" if name in LISTS else word


def _escape(text: str) -> str:
    """Square brackets are meant, not markup."""
    return text.replace("[", r"\[")
