"""The Python interface: its names, that it is the command line by other means, and README's examples."""

from __future__ import annotations

import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

import pagedbench as pb
from cli.command import Answer, make_command
from models.folders import make_opt_folder
from pagedbench.cli.app import load
from pagedbench.cli.commands import COMMANDS
from pagedbench.config import FIELDS, ConfigError
from pagedbench.memory.manager import KVManager
from pagedbench.memory.paged import Paged
from pagedbench.runs.api import COMMAND_LINE_ONLY, RunOptions
from pagedbench.runs.options import DELIVERY, with_switch_values
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.scheduler import Scheduler
from pagedbench.simulation.config_shapes import ModelError
from pagedbench.workload.rows import TraceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pagedbench.memory.eviction import CachedBlock

    Command = Callable[..., Answer]

ROOT = Path(__file__).resolve().parents[1]
CARD: dict[str, Any] = {"model": "opt-13b", "device": "sim:a100-40gb", "duration": 20}
WORDS = ("--model", "opt-13b", "--device", "sim:a100-40gb", "--duration", "20")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pagedbench(here: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return make_command(capsys)


def test_the_public_names() -> None:
    names = [
        "AdmissionPolicy",
        "EvictionPolicy",
        "InputError",
        "KVManager",
        "Run",
        "Scheduler",
        "VictimPolicy",
        "read_run",
        "run",
    ]
    names += ["simulate", "sweep"]
    assert sorted(pb.__all__) == sorted(names)
    assert {*names} <= {*dir(pb)}
    assert (pb.KVManager, pb.Scheduler) == (KVManager, Scheduler)
    assert all(getattr(pb, name).__doc__ for name in names)
    for error in (ConfigError, TraceError, ModelError):
        assert issubclass(error, pb.InputError)
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        _ = pb.simulat
    assert (Path(pb.__file__).parent / "py.typed").exists()


def test_the_signatures() -> None:
    for function in (pb.simulate, pb.run, pb.sweep):
        (parameter,) = inspect.signature(function).parameters.values()
        assert parameter.kind is inspect.Parameter.VAR_KEYWORD
        assert parameter.annotation == "Unpack[RunOptions]"
    assert [*inspect.signature(pb.read_run).parameters] == ["folder"]
    assert [*inspect.signature(pb.Run).parameters] == ["summary", "requests", "steps", "folder"]
    assert {*RunOptions.__annotations__, *COMMAND_LINE_ONLY} == {*FIELDS, *DELIVERY}


def test_the_import_is_light() -> None:
    code = (
        "import sys, pagedbench\n"
        "assert not [name for name in sys.modules if name.startswith(('pagedbench.', 'numpy', 'typer'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def without_id(run: pb.Run) -> dict[str, Any]:
    return {name: value for name, value in run.summary.items() if name != "run_id"}


def assert_same(one: pb.Run, other: pb.Run) -> None:
    """Up to the digits that files hold."""
    pd.testing.assert_frame_equal(one.requests, other.requests, rtol=0, atol=1e-8)
    pd.testing.assert_frame_equal(one.steps, other.steps, rtol=0, atol=1e-8)
    assert without_id(one) == without_id(other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ()),
        (
            {"system": "orca-max", "rate": 4, "seed": 3},
            ("--system", "orca-max", "--rate", "4", "--seed", "3"),
        ),
        (
            {"prefix_caching": True, "shared_prefix_len": 64, "block_size": 32},
            ("--prefix-caching", "--shared-prefix-len", "64", "--block-size", "32"),
        ),
        ({"n": 2, "temperature": 0.7, "chat": False}, ("--n", "2", "--temperature", "0.7", "--no-chat")),
    ],
)
def test_a_simulation_is_that_of_the_command(
    pagedbench: Command, here: Path, options: dict[str, Any], words: tuple[str, ...]
) -> None:
    simulated = pb.simulate(**CARD, **options)
    assert list(here.iterdir()) == []
    assert simulated.folder is None
    assert pagedbench("run", *WORDS, *words, "--output", "out").code == 0
    read = pb.read_run("out")
    assert_same(simulated, read)
    assert read.folder == Path("out")
    assert simulated.summary["status"] == "complete"
    assert len(simulated.requests) == simulated.summary["completed"]


def test_a_run_is_saved_where_it_is_asked_for(here: Path) -> None:
    options = {**CARD, "duration": None, "rate": float("inf"), "num_requests": 9}
    saved = pb.simulate(**options, output=here / "out", save_outputs=True)
    assert saved.folder == here / "out"
    assert (here / "out" / "outputs.jsonl").exists()
    assert_same(saved, pb.read_run(here / "out"))
    again = pb.simulate(config=here / "out" / "config.toml")
    assert_same(saved, again)
    with pytest.raises(pb.InputError, match="is not empty"):
        pb.simulate(**options, output=here / "out")


def test_a_sweep_is_a_row_a_run(here: Path) -> None:
    table = pb.sweep(system=["paged", "orca-max"], rate=np.array([1, 2]), **CARD, output="out")
    assert table[["system", "rate"]].to_numpy().tolist() == [
        ["paged", 1.0], ["paged", 2.0], ["orca-max", 1.0], ["orca-max", 2.0],
    ]  # fmt: skip
    last = pb.read_run("out/orca-max_sharegpt_r2_s0")
    assert table["ttft_p99_ms"].iloc[-1] == last.summary["ttft_p99_ms"]
    assert list(table) == list(last.summary)


REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "name": ({"systen": "paged"}, ("--systen", "paged")),
    "system": ({"system": "pagd"}, ("--system", "pagd")),
    "word as number": ({"rate": "fast"}, ("--rate", "fast")),
    "fraction": ({"block_size": 16.5}, ("--block-size", "16.5")),
    "below zero": ({"rate": -1}, ("--rate", "-1")),
    "empty list": ({"rate": []}, ("--rate", "")),
    "no list": ({"max_model_len": [8, 9]}, ("--max-model-len", "8,9")),
    "contradiction": ({"num_requests": 9}, ("--num-requests", "9")),
    "greedy samples": ({"n": 4}, ("--n", "4")),
    "no effect": ({"batch_size": 4}, ("--batch-size", "4")),
    "two names": ({"rate": 1, "request_rate": 1}, ("--rate", "1", "--request-rate", "1")),
    "trace": ({"trace": "no.csv"}, ("--trace", "no.csv")),
    "model": ({"model": "opt-14b"}, ("--model", "opt-14b")),
    "choice": ({"preemption": "never"}, ("--preemption", "never")),
    "force": ({"force": True}, ("--force",)),
    "size": ({"kv_memory": "12apples"}, ("--kv-memory", "12apples")),
    "class": ({"memory": "nowhere:Class"}, ("--memory", "nowhere:Class")),
    "other class": ({"memory": int}, ("--memory", "builtins:int")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said_as_on_the_command_line(pagedbench: Command, case: str) -> None:
    options, words = REFUSED[case]
    answer = pagedbench("run", *WORDS, *words)
    assert answer.code == 2
    with pytest.raises(pb.InputError) as refusal:
        pb.simulate(**{**CARD, **options})
    assert str(refusal.value) == answer.sentence


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cpu"}, "simulated --device"),
        ({"rate": [1, 2]}, "2 runs: pagedbench.sweep"),
        ({"format": "json"}, "--format has no effect from Python"),
    ],
)
def test_what_only_python_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(pb.InputError, match=words):
        pb.simulate(**{**CARD, **options})
    with pytest.raises(pb.InputError, match="nowhere is not a complete run"):
        pb.read_run("nowhere")


def test_classes_of_ones_own_may_be_local() -> None:
    class Mine(Paged):
        pass

    class Fifo(IterationLevel):
        pass

    assert pb.simulate(memory=Mine, **CARD).summary["system"] == "Mine"
    table = pb.sweep(system=["paged", Mine, Fifo, "other=pagedbench.memory.paged:Paged"], **CARD)
    assert list(table["system"]) == ["paged", "Mine", "Fifo", "other"]
    assert table["ttft_p99_ms"].nunique() == 1


def test_an_eviction_policy_of_ones_own() -> None:
    class MostRecent(pb.EvictionPolicy):
        """Gives up what became idle last."""

        def __init__(self) -> None:
            self.idle: list[CachedBlock] = []

        def add(self, blocks: Sequence[CachedBlock]) -> None:
            self.idle += blocks

        def remove(self, blocks: Sequence[CachedBlock]) -> None:
            self.idle = [block for block in self.idle if block not in blocks]

        def evict(self, number: int) -> list[CachedBlock]:
            return [self.idle.pop() for _ in range(number)]

    options = {**CARD, "trace": "agentic", "length_scale": 0.02, "kv_slots": 3000, "max_model_len": 2048}
    del options["duration"]
    policies = ["lru", "ttl:1s", "belady", MostRecent]
    table = pb.sweep(prefix_caching=True, eviction=policies, num_requests=60, **options)
    names = [name.rpartition(".")[2] for name in table["eviction"]]
    assert names == ["lru", "ttl:1s", "belady", "MostRecent"]
    assert table["evicted_blocks"].all()
    lru, ttl, belady, own = table["prefix_hit_pct"]
    assert ttl < own < lru <= belady
    plain = pb.sweep(prefix_caching=[False, True], eviction=["fifo", "lru"], num_requests=9, **options)
    assert list(plain["eviction"].fillna("-")) == ["-", "fifo", "lru"]  # without a cache nothing is evicted


def test_a_crash_is_raised_and_in_a_sweep_a_row() -> None:
    class Broken(Paged):
        def advance(self, num_sequences: int) -> None:
            raise KeyError("lost")

    with pytest.raises(RuntimeError, match=r"it crashed with KeyError: 'lost' \(.*in advance\)"):
        pb.simulate(memory=Broken, **CARD)
    table = pb.sweep(system=[Broken, "paged"], **CARD)
    assert list(table["status"]) == ["crashed", "complete"]
    assert "KeyError" in table["reason"][0]


@pytest.mark.usefixtures("one_thread")
def test_a_run_on_a_real_device(here: Path) -> None:
    model = make_opt_folder(here / "model")
    (here / "t.csv").write_text("prompt_len,output_len\n5,4\n6,3\n")
    made = pb.run(
        device="cpu", model=model, trace="t.csv", rate=float("inf"), warmup=0, kernels="reference"
    )
    assert (made.summary["status"], made.summary["device"], made.summary["valid"]) == (
        "complete",
        "cpu",
        True,
    )
    assert list(made.requests["output_len"]) == [4, 3] or list(made.requests["output_len"]) == [3, 4]


README = (ROOT / "README.md").read_text(encoding="utf-8")
PARTS = re.split(r"^```", README, flags=re.MULTILINE)
"""Text and code in turns; code begins with its language, if it has one."""


def shell_examples() -> list[list[str]]:
    """The arguments of every `pagedbench` command in README, in order."""
    examples: list[str] = []
    for number, part in enumerate(PARTS):
        pattern = r"^pagedbench (.*)" if number % 2 else r"`pagedbench (\w[^`]*)`"
        examples += re.findall(pattern, part, re.MULTILINE)
    return [shlex.split(example, comments=True) for example in examples if "--help" not in example]


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 250


def test_readme_has_an_example_of_every_tool() -> None:
    used = {arguments[0] for arguments in shell_examples()}
    assert {*COMMANDS} - used == {"baseline", "systems"}


@pytest.mark.parametrize("arguments", shell_examples(), ids=" ".join)
def test_a_shell_example_can_be_typed(arguments: list[str]) -> None:
    name, *words = with_switch_values(arguments)
    with load(name).make_context(name, words):  # raises what the command line would refuse
        pass


def test_shell_examples_that_simulate_run(pagedbench: Command, here: Path) -> None:
    """In order, because some read what others saved; shorter than they are printed."""
    shorter = {
        **dict.fromkeys(("run", "compare"), ("--duration", "10")),
        "sweep": ("--duration", "10", "--jobs", "1"),
        "capacity": ("--duration", "20", "--tolerance", "0.5", "--jobs", "1"),
        **dict.fromkeys(("plan", "policies"), ("--duration", "10", "--seeds", "1", "--jobs", "1")),
    }
    ran = set()
    for name, *words in shell_examples():
        if any("sim:" in word for word in words) or "study" in " ".join(words):
            less = () if "agentic" in words else shorter.get(name, ())  # few sessions, but long ones
            answer = pagedbench(name, *words, *less)
            assert (answer.code, answer.err.count("Error")) == (0, 0), (name, words, answer.err)
            ran.add(name)
    assert ran == {
        *("run", "compare", "sweep", "plot", "report", "explain", "view", "capacity", "policies", "plan")
    }
    assert (here / "study.html").exists()


def test_python_examples_run(here: Path) -> None:
    names: dict[str, Any] = {}
    for part in PARTS:
        if part.startswith("python\n"):
            exec(part.removeprefix("python"), names)
    assert list(names["runs"]["victim"])[:2] == ["latest", "least-computed"]
    assert names["runs"]["preemptions_recompute"].all()


def test_readme_names_what_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    links = [link for link in links if "://" not in link]
    assert len(links) > 30
    assert [link for link in links if not (ROOT / link).exists()] == []
    for link, name in re.findall(r"`(\w+)` in \[`[^`]+`\]\(([^)]+)\)", README):
        assert link in (ROOT / name).read_text(encoding="utf-8")


def test_readme_states_the_size_of_the_package() -> None:
    rows = re.findall(r"^\| (.+) \| ([\d,]+) \|$", README, re.MULTILINE)
    spec = importlib.util.spec_from_file_location("update_readme", ROOT / "results" / "update_readme.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    today = dict(re.findall(r"^\| (.+) \| ([\d,]+) \|$", script.size_text(), re.MULTILINE))
    assert [part for part, _ in rows] == [*today]
    for part, shown in rows:
        count, now = (int(text.replace(",", "")) for text in (shown, today[part]))
        assert count == pytest.approx(now, rel=0.03, abs=100), "run results/update_readme.py"
