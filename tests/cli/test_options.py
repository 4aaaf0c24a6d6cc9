"""The options of run are the fields of RunConfig; text and TOML become the same typed values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from pagedbench.cli.app import load
from pagedbench.config import FIELDS, ConfigError, RunConfig, flag
from pagedbench.runs.configs import run_configs
from pagedbench.runs.options import CommandOptions
from pagedbench.runs.values import parse_text, read_config

if TYPE_CHECKING:
    from pathlib import Path


def typed(**texts: str) -> CommandOptions:
    return CommandOptions(flags={name: parse_text(name, text) for name, text in texts.items()})


@pytest.mark.parametrize("name", ["run", "compare"])
def test_every_field_is_an_option_with_its_aliases(name: str) -> None:
    command = load(name)
    spellings = {spelling for parameter in command.params for spelling in parameter.opts}
    for field in FIELDS.values():
        assert {flag(field.name), *field.metadata["aliases"]} <= spellings
    arguments = [item.name for item in command.params if item.param_type_name == "argument"]
    assert arguments == (["runs"] if name == "compare" else [])


def test_defaults_are_those_of_the_configuration() -> None:
    assert run_configs(typed()) == [RunConfig()]


def test_text_becomes_typed_values() -> None:
    assert parse_text("rate", "1, 2.5,inf") == (1.0, 2.5, math.inf)
    assert parse_text("block_size", "8,16") == (8, 16)
    assert parse_text("kv_slots", "15696") == (15696,)
    assert parse_text("label", "a,b") == ("a,b",)  # no list
    assert isinstance(parse_text("duration", "20")[0], float)
    assert parse_text("beam_width", "2,4") == (2, 4)
    assert parse_text("preemption", "auto,swap") == ("auto", "swap")


def test_a_file_with_a_comma_is_one_trace(tmp_path: Path) -> None:
    path = tmp_path / "a,b.csv"
    path.touch()
    assert parse_text("trace", str(path)) == (str(path),)
    assert parse_text("trace", "sharegpt,alpaca") == ("sharegpt", "alpaca")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kv_slots", "1.5"),
        ("kv_slots", "1,x"),
        ("max_model_len", "1,2"),
        ("prefix_caching", "yes"),
        ("rate", "fast"),
        ("rate", "1,"),
        ("model", " "),
    ],
)
def test_wrong_text_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=flag(name)):
        parse_text(name, text)


def test_lists_multiply_in_order() -> None:
    configs = run_configs(
        typed(rate="1,2", system="orca-max,vllm", block_size="16,8", trace="alpaca", seed="0,1")
    )
    points = [(c.system, c.trace, c.rate, c.seed, c.block_size) for c in configs]
    assert len(points) == 16
    assert points[:3] == [
        ("orca-max", "alpaca", 1.0, 0, 16),
        ("orca-max", "alpaca", 1.0, 0, 8),
        ("orca-max", "alpaca", 1.0, 1, 16),
    ]
    assert points[4] == ("orca-max", "alpaca", 2.0, 0, 16)
    assert points[8] == ("paged", "alpaca", 1.0, 0, 16)


def test_decoding_and_preemption_multiply_too() -> None:
    configs = run_configs(typed(n="2,4", temperature="1", preemption="swap,recompute"))
    assert [(c.n, c.preemption) for c in configs] == [
        (2, "swap"),
        (2, "recompute"),
        (4, "swap"),
        (4, "recompute"),
    ]
    assert [c.beam_width for c in run_configs(typed(beam_width="2,6"))] == [2, 6]


def test_options_of_paged_reach_paged_alone() -> None:
    options = typed(system="paged,orca-max", preemption="swap,recompute", swap_space="1GiB")
    options.flags["prefix_caching"] = (True,)
    configs = run_configs(options)
    assert [(c.system, c.prefix_caching, c.swap_space) for c in configs] == [
        ("paged", True, "1GiB"),
        ("paged", True, None),  # recomputes
        ("orca-max", False, None),
        ("orca-max", False, None),
    ]


def test_batch_size_reaches_its_own_system_alone() -> None:
    configs = run_configs(typed(system="paged,ft", batch_size="5"))
    assert [(c.system, c.batch_size) for c in configs] == [("paged", None), ("fastertransformer", 5)]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.toml", 'system = "orca-max"\nrate = [1, 2.5]\nduration = 30\nkv-slots = 4096\n'
    )
    from_file = run_configs(CommandOptions(flags={}, config=file))
    assert [(c.system, c.rate, c.duration, c.kv_slots) for c in from_file] == [
        ("orca-max", 1.0, 30.0, 4096),
        ("orca-max", 2.5, 30.0, 4096),
    ]
    assert type(from_file[0].rate) is float
    (config,) = run_configs(CommandOptions(flags={"rate": (4.0,), "num_requests": (7,)}, config=file))
    assert (config.rate, config.num_requests, config.duration) == (4.0, 7, None)


def test_switches_in_a_file_and_against_it(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", "prefix_caching = true\nbeam_width = 4\n")
    (config,) = run_configs(CommandOptions(flags={}, config=file))
    assert (config.prefix_caching, config.beam_width) == (True, 4)
    flags = {"prefix_caching": (False,), "n": (2,), "temperature": (1.0,)}
    (config,) = run_configs(CommandOptions(flags=flags, config=file))
    assert (config.prefix_caching, config.n, config.beam_width) == (False, 2, None)


def test_a_flag_takes_along_what_it_leaves_without_effect(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.toml", 'swap_space = "1GiB"\nshared_prefix_len = 9\nshared_prefix_groups = 2\n'
    )
    (config,) = run_configs(CommandOptions(flags={"preemption": ("recompute",)}, config=file))
    assert (config.swap_space, config.shared_prefix_groups) == (None, 2)
    (config,) = run_configs(CommandOptions(flags={"shared_prefix_len": (0,)}, config=file))
    assert (config.swap_space, config.shared_prefix_groups) == ("1GiB", 1)
    with pytest.raises(ConfigError, match="--swap-space has no effect"):
        run_configs(typed(preemption="recompute", swap_space="1GiB"))


def test_a_rate_of_all_at_once_replaces_the_files_duration(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", "duration = 30\n")
    (config,) = run_configs(CommandOptions(flags={"rate": (math.inf,)}, config=file))
    assert config.duration is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ratee = 2", "unknown key 'ratee'; did you mean 'rate'"),
        ("rate = = 2", "is not TOML"),
        ('rate = "fast"', "takes a number"),
        ("rate = []", "empty list"),
        ("max_model_len = [1, 2]", "one value"),
        ("kv_slots = 1.5", "takes a whole number"),
        ("seed = true", "takes a whole number"),
        ("chat = 1", "takes true or false"),
        ('prefix_caching = "on"', "takes true or false"),
        ("chat = [true]", "one value"),
        ("[run]\nrate = 2", "unknown key 'run'"),
    ],
)
def test_wrong_toml_is_refused_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        read_config(write(tmp_path / "a.toml", text))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "texts",
    [
        {"batch_size": "4"},
        {"batch_size": "4", "system": "paged,orca-max"},
        {"prefill": "separate", "system": "ft"},
        {"rate": "2", "arrival": "trace"},
        {"warmup": "2", "device": "sim:a100-40gb"},
        {"kernels": "native", "device": "sim:a100-40gb"},
        {"preemption": "swap", "system": "orca-max,ft"},
        {"swap_space": "1GiB", "system": "orca-oracle"},
        {"system": "paged,vllm"},
        {"rate": "2,2.0"},
    ],
)
def test_options_without_effect_are_refused(texts: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"no effect|twice"):
        run_configs(typed(**texts))


def test_force_needs_a_folder_to_replace() -> None:
    with pytest.raises(ConfigError, match="--force has no effect"):
        CommandOptions(flags={}, force=True)
