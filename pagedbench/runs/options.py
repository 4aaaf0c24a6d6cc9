"""The options of every command that makes runs, generated from the fields of RunConfig."""

from __future__ import annotations

import functools
import inspect
import itertools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pagedbench.config import FIELDS, ConfigError, flag, plain
from pagedbench.option_values import LISTS
from pagedbench.runs.slo_requirement import parse_requirement
from pagedbench.runs.values import SWITCH_WORDS, Values, parse_text, value_type

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from collections.abc import Sequence as Items

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The error that typer's parser raises; typer has no public name for it."""

CHOICES = {"format": ("rich", "json", "csv", "md"), "progress": ("auto", "rich", "plain", "none")}
"""Options of `CommandOptions` with a closed set of values; RunConfig checks its own options."""

PANELS = {
    "Workload": "trace trace_block_size tokenizer rate arrival time_scale spike_at spike_duration "
    "spike_factor ramp_to max_concurrency think_time turn_times length_scale burstiness num_requests "
    "duration chat shared_prefix_len shared_prefix_groups warmup seed",
    "Decoding": "n beam_width temperature top_p top_k",
    "Model and device": "model load_format device cost_model dtype kv_dtype kernels tensor_parallel_size",
    "Memory and scheduling": "kv_slots kv_memory gpu_memory_utilization block_size max_model_len "
    "max_num_seqs max_num_batched_tokens prefill_chunk_size batch_size memory batching "
    "preemption victim admission swap_space prefix_caching eviction host_cache disk_cache disk_cache_dir "
    "watermark prefill page_size commit_ahead kept_pages",
}
"""Headings of the help page, and the fields below each; fields without a heading come first."""

OF_WORKLOAD = (*PANELS["Workload"].split(), *PANELS["Decoding"].split(), "model", "max_model_len",
               "prefix_caching", "slo", "label")  # fmt: skip
"""Options that also apply to a run against a server; the others are about our engine."""


DELIVERY = {
    "config": "Take options from a TOML file; those on the command line win.",
    "output": "Write the run folder exactly here; several runs get a subfolder each.",
    "force": "Replace what --output holds.",
    "save_outputs": "Also write outputs.jsonl.",
    "save_events": "Also write events.parquet: every change of the KV pool, for `pagedbench view`.",
    "strict": "Exit with 5 if a run is invalid, or was starved by other programs.",
    "require_slo": "Exit with 4 if fewer than this share of the requests, such as 95%, meet --slo.",
    "format": f"What stdout shows: {', '.join(CHOICES['format'])}.",
    "progress": f"{', '.join(CHOICES['progress'])}.",
    "dry_run": "Print the resolved plan and stop.",
}
"""Help of the options that say where the configuration comes from and where the results go."""


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """What was typed: the fields of RunConfig as flags, and how to deliver the results."""

    flags: Values
    config: Path | None = None
    output: Path | None = None
    force: bool = False
    save_outputs: bool = False
    save_events: bool = False
    strict: bool = False
    require_slo: str | None = None
    format: str = "rich"
    progress: str = "auto"
    dry_run: bool = False

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{flag(name)} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.force and self.output is None:
            raise ConfigError("--force has no effect without --output: a new folder replaces nothing")
        _ = self.required_attainment

    @property
    def required_attainment(self) -> float | None:
        """The share (0-1) of the requests that must meet `--slo`, if any.

        Raises:
            ConfigError: it is not a share.
        """
        return None if self.require_slo is None else parse_requirement(self.require_slo)


def takes_run_options(
    command: Callable[..., Any], shown: Container[str] | None = None
) -> Callable[..., Any]:
    """Turn a function of `CommandOptions` into a command with an option for every field of RunConfig.

    Other parameters of the function become options too. They are passed by keyword.

    Args:
        shown: the fields that the command's help page shows; None: all.
    """
    return with_options(command, tuple(FIELDS), tuple(DELIVERY), shown)


def with_options(
    command: Callable[..., Any],
    names: Items[str],
    delivery: Items[str],
    shown: Container[str] | None = None,
) -> Callable[..., Any]:
    """`takes_run_options` with only some of the fields of RunConfig and of `DELIVERY`."""
    _, *others = inspect.signature(command, eval_str=True).parameters.values()
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in others]

    def wrapper(**arguments: Any) -> Any:
        flags = _pop_flags(arguments, names)
        for name in ("config", "output"):
            if arguments.get(name) is not None:  # a shell does not expand the ~ in --output=~/here
                arguments[name] = arguments[name].expanduser()
        rest = {parameter.name: arguments.pop(parameter.name) for parameter in own}
        return command(CommandOptions(flags=flags, **arguments), **rest)

    functools.update_wrapper(wrapper, command)
    parameters = [
        parameter
        for name in names
        for parameter in _field_parameters(name, is_hidden=shown is not None and name not in shown)
    ]
    parameters += [*own, *_delivery_parameters(delivery)]
    vars(wrapper)["__signature__"] = inspect.Signature(parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def parse_words(words: Items[str]) -> CommandOptions:
    """Parse what might be typed after `pagedbench run`.

    Raises:
        ConfigError: an option is unknown, or its value cannot be read.
    """
    try:
        parsed = _parser().main(args=with_switch_values(words), standalone_mode=False)
    except UsageError as error:
        raise ConfigError(sentence_of(error)) from None
    assert isinstance(parsed, CommandOptions)
    return parsed


def sentence_of(error: Exception) -> str:
    """The message of an error in one line; the parser's errors have a method for it."""
    describe = getattr(error, "format_message", error.__str__)
    return " ".join(describe().split())


@functools.cache
def _parser() -> Any:
    def identity(options: CommandOptions) -> CommandOptions:
        return options

    parser = typer.Typer(add_completion=False)
    parser.command()(takes_run_options(identity))
    return typer.main.get_command(parser)


def with_switch_values(arguments: Items[str]) -> list[str]:
    """Add the value "on" to every switch that takes lists (--prefix-caching on,off) and has no value."""
    switches = {flag(name) for name in LISTS if value_type(name) == "bool"}
    words = []
    for word, after in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        words.append(word)
        if word in switches and not set(after.split(",")) <= {*SWITCH_WORDS}:
            words.append("on")
    return words


def _pop_flags(arguments: dict[str, Any], names: Items[str]) -> Values:
    """Take fields of RunConfig out of the arguments; those that were not typed are None."""
    flags: Values = {}
    for name in names:
        for spelling in (name, *_other_names(name)):
            value = arguments.pop(spelling)
            if value is None:
                continue
            if name in flags:
                raise ConfigError(f"{flag(name)} is given twice, under two of its names")
            is_off = spelling == f"no_{name}"
            flags[name] = (not is_off,) if value is True else parse_text(name, value)
    return flags


def _field_parameters(name: str, *, is_hidden: bool = False) -> list[inspect.Parameter]:
    """The option of a field, and hidden ones for its aliases and for the opposite of a switch.

    Options take text, so that all messages about values are our own; most switches take nothing. The help
    of the option names its aliases, so that the page shows one name per line.
    """
    field, is_switch = FIELDS[name], value_type(name) == "bool"
    is_plain = is_switch and name not in LISTS
    aliases = field.metadata["aliases"]
    notes = [f"also {' and '.join(aliases)}"] if aliases else []
    notes += [] if field.default is None else [f"default: {plain(field.default)}"]
    help = " ".join([field.metadata["help"], *(f"[{note}]" for note in notes)])
    option = typer.Option(
        None,
        flag(name),
        help=help.replace("[", r"\["),  # rich reads [...] as markup
        metavar=None if is_plain else field.metadata["metavar"] or _metavar(name),
        show_default=False,
        hidden=is_hidden,
        rich_help_panel=next((panel for panel, names in PANELS.items() if name in names.split()), None),
    )
    parameters = [_parameter(name, option, bool | None if is_plain else str | None)]
    spellings = [f"--no-{flag(name)[2:]}"] if is_switch else aliases
    for other, spelling in zip(_other_names(name), spellings, strict=True):
        hidden = typer.Option(None, spelling, hidden=True)
        parameters.append(_parameter(other, hidden, bool | None if is_switch else str | None))
    return parameters


def _other_names(name: str) -> list[str]:
    """The names of a field's hidden options, as parameters of a function."""
    if value_type(name) == "bool":
        return [f"no_{name}"]
    return [
        f"{name}_as_{alias.lstrip('-').replace('-', '_')}" for alias in FIELDS[name].metadata["aliases"]
    ]


_OPTIONAL: dict[str, object] = {"Path | None": Path | None, "str | None": str | None}


def _delivery_parameters(names: Items[str]) -> list[inspect.Parameter]:
    parameters = []
    for item in (item for item in fields(CommandOptions)[1:] if item.name in names):
        metavar = "TEXT" if item.name in (*CHOICES, "require_slo") else None
        option = typer.Option(
            item.default,
            flag(item.name),
            help=DELIVERY[item.name],
            metavar=metavar,
            rich_help_panel="Results",
        )
        kind = _OPTIONAL.get(str(item.type)) or type(item.default)
        parameters.append(_parameter(item.name, option, kind))
    return parameters


def _parameter(name: str, default: object, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _metavar(name: str) -> str:
    word = {"int": "INTEGER", "float": "NUMBER", "str": "TEXT", "bool": "on|off"}[value_type(name)]
    return f"{word}[,...]" if name in LISTS else word
