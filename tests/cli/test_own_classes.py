"""Classes of one's own: their names, their options, beside built-in systems, and when they crash."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

import pytest

from cli.command import QUICK, Answer
from pagedbench.runs.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pagedbench.backend import SimulatedBackend

    Command = Callable[..., Answer]

CLASSES = """
from pagedbench.memory.manager import KVManager
from pagedbench.memory.paged import Paged
from pagedbench.memory.contiguous import EqualExtents, MaxReservation
from pagedbench.scheduling.iteration_level import IterationLevel

class Careful(Paged):
    def __init__(self, num_slots, block_size, max_model_len):
        super().__init__(num_slots, block_size, max_model_len)
        self.watermark_blocks = self.pool.num_blocks // 2

class Plain(Paged): ...

class Reserving(MaxReservation): ...

class Halves(EqualExtents): ...

class Policy(IterationLevel): ...

class Breaks(Paged):
    def advance(self, num_sequences):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls > 100:
            raise RuntimeError("out of luck")
        super().advance(num_sequences)

class NeverBuilt(Paged):
    def __init__(self, *sizes):
        raise KeyError("size")

class Silent(Paged):
    attention = None
"""


@pytest.fixture
def module(here: Path, request: pytest.FixtureRequest) -> str:
    """A module of its own for every test, in the current folder."""
    name = f"own_{abs(hash(request.node.nodeid))}"
    (here / f"{name}.py").write_text(CLASSES)
    return name


def row_of(folder: Path) -> dict[str, str]:
    (row,) = csv.DictReader(io.StringIO((folder / "summary.csv").read_text(encoding="utf-8")))
    return row


def test_own_classes_stand_beside_built_in_systems(pagedbench: Command, here: Path, module: str) -> None:
    systems = f"paged,orca-max,mine={module}:Careful,fifo={module}:Policy"
    answer = pagedbench("compare", *QUICK, "--system", systems, "--output", "out")
    assert (answer.code, answer.err) == (0, "")
    names = [f"{name}_sharegpt_r2_s0" for name in ("fifo", "mine", "orca-max", "paged")]
    assert sorted(path.name for path in (here / "out").iterdir()) == names
    rows = [row_of(here / "out" / name) for name in names]
    assert [(row["system"], row["label"]) for row in rows] == [
        ("fifo", "fifo"), ("mine", "mine"), ("orca-max", ""), ("paged", ""),
    ]  # fmt: skip
    assert f"mine: memory: {module}:Careful; batching: iteration-level, preemption." in answer.out
    assert f"fifo: memory: blocks on demand; batching: {module}:Policy." in answer.out
    for name in ("paged", "orca-max", "mine", "fifo"):
        assert f"\n{name} " in answer.out
    steps = [(here / "out" / name / "steps.csv").read_bytes() for name in names]
    assert steps[0] == steps[3]  # the same scheduler under another name


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--memory", "{}:Plain"), "Plain"),
        (("--system", "orca-max", "--memory", "{}:Reserving"), "Reserving"),
        (("--batching", "{}:Policy"), "Policy"),
        (("--system", "orca-max", "--batching", "{}:Policy"), "orca-max+Policy"),
        (("--memory", "{}:Plain", "--batching", "{}:Policy"), "Plain+Policy"),
        (("--system", "ft", "--memory", "{}:Halves"), "Halves"),
        (("--system", "mine={}:Plain", "--batching", "{}:Policy", "--label", "try"), "mine"),
    ],
)
def test_a_row_is_named_after_the_class_and_its_config_repeats_it(
    pagedbench: Command, here: Path, module: str, options: tuple[str, ...], name: str
) -> None:
    options = tuple(option.format(module) for option in options)
    assert pagedbench("run", *QUICK, *options, "--output", "a").code == 0
    assert row_of(here / "a")["system"] == name
    assert json.loads((here / "a" / "manifest.json").read_text())["plan"]["system"] == name
    assert pagedbench("run", "--config", "a/config.toml", "--output", "b").code == 0
    for file in ("requests.csv", "steps.csv", "config.toml"):
        assert (here / "a" / file).read_bytes() == (here / "b" / file).read_bytes()
    label = "try" if "try" in options else name
    assert [row_of(here / run)["label"] for run in ("a", "b")] == [label, label]


def test_folders_and_sweeps_have_the_name(pagedbench: Command, here: Path, module: str) -> None:
    pagedbench("run", *QUICK, "--memory", f"{module}:Plain")
    (folder,) = (here / "results").iterdir()
    assert folder.name.endswith("_Plain_sharegpt_r2_s0")
    sweep = ("sweep", *QUICK, "--output", "out", "--system", f"paged,mine={module}:Careful")
    answer = pagedbench(*sweep, "--jobs", "2", "--format", "csv")
    assert answer.code == 0, answer.err
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert [(row["cell"], row["system"]) for row in rows] == [
        ("paged_sharegpt_r2_s0", "paged"),
        ("mine_sharegpt_r2_s0", "mine"),
    ]
    again = pagedbench(*sweep, "--jobs", "1")
    assert (again.code, again.err.count("[")) == (0, 0)  # every run was kept


def test_a_subclass_takes_the_options_of_its_manager(pagedbench: Command, here: Path, module: str) -> None:
    options = ("--prefix-caching", "--swap-space", "1GiB", "--preemption", "swap", "--kv-slots", "3000")
    answer = pagedbench(
        "compare", *QUICK, *options, "--system", f"paged,mine={module}:Plain,orca-max", "--output", "out"
    )
    assert answer.code == 0
    paged, mine, orca = (
        row_of(here / f"out/{name}_sharegpt_r2_s0") for name in ("paged", "mine", "orca-max")
    )
    assert int(paged["preemptions_swap"]) > 0
    assert (here / "out/mine_sharegpt_r2_s0/steps.csv").read_bytes() == (
        here / "out/paged_sharegpt_r2_s0/steps.csv"
    ).read_bytes()
    assert mine["prefix_hit_pct"] == paged["prefix_hit_pct"] != ""
    assert orca["prefix_hit_pct"] == ""


def test_a_crash_is_a_row_that_says_where_and_others_go_on(
    pagedbench: Command, here: Path, module: str
) -> None:
    systems = f"bad={module}:Breaks,paged,orca-max"
    answer = pagedbench("compare", *QUICK, "--system", systems, "--output", "out")
    assert answer.code == 1
    crash = f"RuntimeError: out of luck ({module}.py:24, in advance)"
    assert answer.err == f"Error: crashed with {crash}; PAGEDBENCH_DEBUG=1 shows all of it\n"
    assert f"bad crashed with {module}" not in answer.out
    assert "bad crashed with RuntimeError: out of luck" in answer.out
    row = next(line for line in answer.out.splitlines() if line.startswith("bad "))
    assert row.rstrip().endswith("crashed")
    assert "*" not in row
    assert "tie" not in answer.out
    assert "memory was not" not in answer.out
    for name, status in (("bad", "crashed"), ("paged", "complete"), ("orca-max", "complete")):
        manifest = json.loads((here / f"out/{name}_sharegpt_r2_s0/manifest.json").read_text())
        assert manifest["status"] == status
    alone = pagedbench("run", *QUICK, "--system", f"bad={module}:Breaks", "--output", "alone")
    assert crash in " ".join(alone.out.split())
    assert "tie" not in alone.out


def test_a_crash_before_the_clock_starts_is_a_row_too(
    pagedbench: Command, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    load = Runner._load

    def breaking(runner: Runner, plan: object) -> SimulatedBackend:
        backend = load(runner, plan)

        def warm_up(plan: object, num_tokens: int) -> None:
            raise RuntimeError("too early")

        backend.warm_up = warm_up
        return backend

    monkeypatch.setattr(Runner, "_load", breaking)
    answer = pagedbench("compare", *QUICK, "--system", "paged,orca-max", "--output", "out")
    assert answer.code == 1
    assert answer.err.count("Error: crashed with RuntimeError: too early (") == 2
    assert len(list((here / "out").iterdir())) == 2


REFUSALS = {
    "the same runs twice": (("--system", "paged,orca-max", "--memory", "{}:Plain"), "both be called Plain"),
    "one name for two": (("--system", "a={}:Plain,a={}:Careful"), "both be called a"),
    "a name that is taken": (("--system", "vllm={}:Plain"), "vllm is a built-in system"),
    "no name": (("--system", "={}:Plain"), "cannot name a system"),
    "a name for no folder": (("--system", "a/b={}:Plain"), "cannot name a system"),
    "no class": (("--system", "mine="), "mine=module:Class"),
    "unknown class": (("--system", "mine={}:Nothing"), "--system mine="),
    "neither kind": (("--system", "mine=pagedbench.request:Request"), "KVManager or Scheduler"),
    "two managers": (("--system", "mine={}:Plain", "--memory", "{}:Careful"), "--memory would replace"),
    "two schedulers": (("--system", "p={}:Policy", "--batching", "{}:Policy"), "--batching would replace"),
    "no attention": (("--memory", "{}:Silent"), "set its `attention`"),
    "never built": (("--memory", "{}:NeverBuilt"), "cannot be built: KeyError: 'size' ("),
    "no room for options": (("--memory", "{}:Careful", "--prefix-caching"), "argument 'prefix_caching'"),
    "no cache": (("--system", "m={}:Reserving", "--prefix-caching"), "caches_prefixes = True"),
    "no swaps": (("--memory", "{}:Reserving", "--swap-space", "1GiB"), "swaps = True"),
    "no preemption": (("--memory", "{}:Reserving", "--preemption", "swap"), "preempts = True"),
    "no batches": (("--memory", "{}:Plain", "--batch-size", "4"), "has_equal_extents = True"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refused(case: str, pagedbench: Command, here: Path, module: str) -> None:
    options, words = REFUSALS[case]
    answer = pagedbench("run", *QUICK, *(option.replace("{}", module) for option in options))
    assert answer.code == 2
    assert words in answer.sentence
    assert answer.out == ""
    assert not (here / "results").exists()
