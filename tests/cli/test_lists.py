"""Lists multiply, of models, devices, pools and limits too, and the runs stay told apart."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

import pytest

from cli.command import QUICK, SIMULATED, Answer
from models.folders import make_opt_folder
from pagedbench.config import ConfigError
from pagedbench.option_values import LISTS
from pagedbench.runs.configs import run_configs
from pagedbench.runs.options import CommandOptions, with_switch_values
from pagedbench.runs.values import parse_text, read_config
from pagedbench.show.identity import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Answer]


def typed(**texts: str) -> CommandOptions:
    return CommandOptions(flags={name: parse_text(name, text) for name, text in texts.items()})


VALUES = {
    "kv_dtype": "auto,int8",
    "kv_slots": "4096,8192",
    "kv_memory": "4GiB,8GiB",
    "max_num_seqs": "16,64",
    "max_num_batched_tokens": "2048,2560",
    "tensor_parallel_size": "1,2",
    "model": "opt-13b,llama-13b",
    "device": "sim:a100-40gb,sim:a100-80gb",
    "prefix_caching": "on,off",
}
CASES = {
    "kv_dtype": ("kv-auto", "kv-int8"),
    "kv_slots": ("slots4096", "slots8192"),
    "kv_memory": ("4GiB", "8GiB"),
    "max_num_seqs": ("seqs16", "seqs64"),
    "max_num_batched_tokens": ("tokens2048", "tokens2560"),
    "tensor_parallel_size": ("tp1", "tp2"),
    "model": ("opt-13b", "llama-13b"),
    "device": ("sim-a100-40gb", "sim-a100-80gb"),
    "prefix_caching": ("cache-on", "cache-off"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_list_makes_a_folder_a_value(pagedbench: Command, here: Path, name: str) -> None:
    option = f"--{name.replace('_', '-')}"
    answer = pagedbench("run", *QUICK, option, VALUES[name], "--output", "out", "--format", "csv")
    assert answer.code == 0, answer.err
    folders = [f"paged_sharegpt_r2_s0_{word}" for word in CASES[name]]
    assert sorted(path.name for path in (here / "out").iterdir()) == sorted(folders)
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    column = "kv_slots" if name == "kv_memory" else name
    assert rows[0][column] != rows[1][column]
    pagedbench("run", "--config", f"out/{folders[1]}/config.toml", "--output", "again")
    steps = [(here / folder / "steps.csv").read_bytes() for folder in (f"out/{folders[1]}", "again")]
    assert steps[0] == steps[1]


def test_tables_say_what_differs(pagedbench: Command, here: Path) -> None:
    assert {*LISTS} - {"system", "kv_memory"} <= {*OPTIONS}  # a pool in bytes is shown in slots
    compare = ("compare", *QUICK, "--system", "paged")
    answer = pagedbench(*compare, "--kv-memory", "4GiB,8GiB")
    assert re.search(r"^system +slots ", answer.out, re.MULTILINE)
    assert re.search(r"^paged +5,232 ", answer.out, re.MULTILINE)
    for words in ("3.99 GiB, 327 blocks of 16, 5,232 tokens", "655 blocks of 16, 10,480 tokens"):
        assert words in answer.out
    answer = pagedbench(*compare, "--block-size", "16,32")
    assert not re.search(r"^system .* slots ", answer.out, re.MULTILINE)  # the same memory in other blocks


def test_a_cache_of_prefixes_is_compared_with_none(pagedbench: Command, here: Path) -> None:
    arguments = ("--system", "paged,orca-max", "--prefix-caching", "on,off", "--output", "out")
    answer = pagedbench("compare", *QUICK, *arguments)
    assert answer.code == 0
    rows = [line.split() for line in answer.out.splitlines() if line.startswith(("paged ", "orca-max "))]
    assert [row[:2] for row in rows[:3]] == [["paged", "on"], ["paged", "off"], ["orca-max", "off"]]
    assert "x: ratio to the first paged of the workload" in answer.out
    assert len(list((here / "out").iterdir())) == 3


def test_sweeps_keep_their_cells_when_lists_grow(pagedbench: Command, here: Path) -> None:
    sweep = ("sweep", *QUICK, "--jobs", "1", "--output", "out", "--format", "csv")
    pagedbench(*sweep, "--max-num-seqs", "64", "--prefix-caching")
    answer = pagedbench(*sweep, "--max-num-seqs", "64,256", "--prefix-caching", "off,on")
    assert answer.code == 0
    assert [row["cell"] for row in csv.DictReader(io.StringIO(answer.out))] == [
        "paged_sharegpt_r2_s0_seqs64",
        "paged_sharegpt_r2_s0_seqs64_cache-on",
        "paged_sharegpt_r2_s0",
        "paged_sharegpt_r2_s0_cache-on",
    ]
    assert "[1/4]" not in answer.err
    assert "[2/4]" in answer.err
    answer = pagedbench(*sweep, "--kv-memory", "4GiB,4096MiB", "--output", "twice")
    assert answer.code == 0  # two names for one pool
    answer = pagedbench(*sweep, "--model", "a/opt,b/opt")
    assert answer.code == 2


def test_models_of_one_name_are_two_runs(pagedbench: Command, here: Path) -> None:
    for folder in ("a", "b"):
        make_opt_folder(here / folder / "opt")
    run = (
        "--device",
        "sim:a100-40gb",
        "--duration",
        "5",
        "--max-model-len",
        "64",
        "--model",
        "a/opt,b/opt",
    )
    run = (*run, "--kv-slots", "512", "--trace", "synthetic")
    pagedbench("run", *run, "--output", "out")
    assert len(list((here / "out").iterdir())) == 2
    answer = pagedbench("sweep", *run, "--output", "cells")
    assert answer.code == 2
    assert "2 runs would be in one folder" in answer.sentence


def test_capacity_tells_rows_apart(pagedbench: Command, here: Path) -> None:
    arguments = ("capacity", *SIMULATED, "--duration", "60", "--system", "paged", "--tolerance", "0.5")
    answer = pagedbench(*arguments, "--kv-memory", "4GiB,8GiB", "--jobs", "1", "--format", "csv")
    assert answer.code == 0, answer.err
    assert [row["kv_slots"] for row in csv.DictReader(io.StringIO(answer.out))] == ["5232", "10480"]


def test_what_one_kind_of_device_has_reaches_that_kind_alone() -> None:
    configs = run_configs(
        typed(device="cpu,sim:a100-40gb", kernels="native", warmup="2", cost_model="roofline")
    )
    assert [(c.device, c.kernels, c.warmup, c.cost_model) for c in configs] == [
        ("cpu", "native", 2, "auto"),
        ("sim:a100-40gb", "auto", 8, "roofline"),
    ]


def test_runs_that_share_what_is_loaded_come_one_after_the_other() -> None:
    configs = run_configs(typed(system="paged,orca-max", model="opt-125m,opt-1.3b"))
    assert [(c.model, c.system) for c in configs] == [
        ("opt-125m", "paged"),
        ("opt-125m", "orca-max"),
        ("opt-1.3b", "paged"),
        ("opt-1.3b", "orca-max"),
    ]


def test_a_switch_takes_a_list_or_nothing() -> None:
    assert with_switch_values(["run", "--prefix-caching", "--chat"]) == [
        "run", "--prefix-caching", "on", "--chat",
    ]  # fmt: skip
    for words in (["--prefix-caching", "off,on"], ["--prefix-caching=off"], ["--no-prefix-caching", "a"]):
        assert with_switch_values(words) == words
    assert with_switch_values(["--prefix-caching"]) == ["--prefix-caching", "on"]
    assert with_switch_values(["--prefix-caching", "a", "b"]) == ["--prefix-caching", "on", "a", "b"]


def test_arrays_of_a_file_multiply(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('prefix_caching = [true, false]\nkv_memory = ["4GiB", "8GiB"]\nmax_num_seqs = [16]\n')
    assert read_config(file)["prefix_caching"] == (True, False)
    assert len(run_configs(CommandOptions(flags={}, config=file))) == 4
    (config,) = run_configs(
        CommandOptions(flags={"prefix_caching": (False,), "kv_slots": (4096,)}, config=file)
    )
    assert (config.prefix_caching, config.kv_memory, config.kv_slots) == (False, None, 4096)


def test_a_file_with_a_comma_is_one_model_or_profile(tmp_path: Path) -> None:
    path = tmp_path / "a,b"
    path.mkdir()
    assert parse_text("model", str(path)) == (str(path),)
    assert parse_text("device", f"sim:{path}") == (f"sim:{path}",)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"model": "opt-13b,opt-13b"}, "twice"),
        ({"kv_slots": "4096", "kv_memory": "4GiB,8GiB"}, "give one of the two"),
        ({"tensor_parallel_size": "1,0", "device": "sim:a100-40gb"}, "at least 1"),
    ],
)
def test_lists_are_refused_by_their_values(texts: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run_configs(typed(**texts))
