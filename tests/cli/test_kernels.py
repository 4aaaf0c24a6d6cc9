"""`kernels`: what it prints and leaves behind, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shlex
import signal
from typing import TYPE_CHECKING

import pytest

from pagedbench.runs import memory_bandwidth
from pagedbench.tools.kernels import bench as kernel_bench
from pagedbench.tools.kernels.bench import COLUMNS, KernelBench
from pagedbench.tools.kernels.cases import WrongOutput
from pagedbench.tools.kernels.options import OPS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.command import Answer
    from pagedbench.tools.kernels.plan import Planned

    Command = Callable[..., Answer]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """Operands that fit a cache: these tests ask for no figures."""
    monkeypatch.setattr(memory_bandwidth, "rotation_bytes", lambda device: 2**18)
    monkeypatch.setattr(kernel_bench, "MAX_SPREAD", math.inf)
    monkeypatch.setattr(kernel_bench, "MAX_SHARE", math.inf)


@pytest.fixture
def quick(model_folders: dict[str, Path]) -> tuple[str | Path, ...]:
    model = model_folders["llama"]
    return (
        "kernels",
        "--quick",
        "--repeats",
        "2",
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--model",
        model,
    )


def test_every_op_in_one_table(pagedbench: Command, quick: tuple[str, ...]) -> None:
    answer = pagedbench(*quick, "--context", "40", "--block-size", "1,16", "--format", "csv")
    assert answer.code == 0
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert tuple(rows[0]) == COLUMNS
    assert list(dict.fromkeys(row["op"] for row in rows)) == list(OPS)
    assert {row["kernels"] for row in rows} >= {"reference", "torch"}
    for row in rows:
        assert float(row["time_median_us"]) > 0
        assert bool(row["over_contiguous"]) == (row["form"] == "paged")
        assert bool(row["over_torch"]) == (row["kernels"] != "torch")


def test_people_read_what_it_stands_on(pagedbench: Command, quick: tuple[str, ...], here: Path) -> None:
    answer = pagedbench(*quick, "--op", "decode,prefill", "--kernels", "reference", "--batch", "2,9000")
    assert answer.code == 2  # 9000 is refused
    answer = pagedbench(*quick, "--op", "write,copy", "--kernels", "reference", "--batch", "2,500")
    assert answer.code == 0
    for words in (
        "paged",
        "contiguous",
        "float32",
        "compared with the definition",
        "Left out: 1 case of copy",
    ):
        assert words in " ".join(answer.out.split())
    assert not list(here.iterdir())


@pytest.mark.parametrize("kind", ["json", "md"])
def test_documents(pagedbench: Command, quick: tuple[str, ...], kind: str) -> None:
    answer = pagedbench(*quick, "--op", "norm", "--kernels", "reference", "--format", kind)
    assert answer.code == 0
    if kind == "json":
        assert [row["form"] for row in json.loads(answer.out)] == ["fused", "separate"] * 2
    else:
        assert answer.out.startswith("| op | kernels | form |")
        assert answer.out.count("\n") == 2 + 4


def test_folder(pagedbench: Command, quick: tuple[str, ...], here: Path) -> None:
    norm = (*quick, "--op", "norm", "--kernels", "reference", "--output", "out")
    assert pagedbench(*norm).code == 0
    assert {path.name for path in (here / "out").iterdir()} == {"kernels.csv", "manifest.json"}
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["options"]["ops"] == ["norm"]
    assert manifest["command"] == shlex.join(["pagedbench", *map(str, norm)])
    assert manifest.keys() >= {"versions", "git_commit", "machine"}
    assert (here / "out" / "kernels.csv").read_text().startswith(",".join(COLUMNS[:4]))
    again = pagedbench(*norm)
    assert again.code == 2
    assert "--force" in again.sentence
    assert pagedbench(*norm, "--force").code == 0
    assert [path.name for path in here.iterdir()] == ["out"]


REFUSED = {
    "unknown op": (("--op", "decod"), "--op takes decode, prefill"),
    "all and one": (("--op", "all,decode"), "name no others"),
    "zero context": (("--context", "0"), "--context must be from 1 to 1048576, not 0"),
    "negative batch": (("--batch", "-4"), "--batch must be from 1 to 4096, not -4"),
    "huge block": (("--block-size", "9" * 30), "--block-size must be from 1 to 4096"),
    "word as batch": (("--batch", "many"), "--batch takes whole numbers, not 'many'"),
    "empty context": (("--context", "64,,128"), "--context has an empty value"),
    "no repeats": (("--repeats", "0"), "--repeats must be from 1"),
    "two repeats": (("--repeats", "3,4"), "--repeats takes one whole number"),
    "unknown kernels": (("--kernels", "fast"), "--kernels takes auto, native"),
    "unknown format": (("--format", "xml"), "--format is one of"),
    "unknown dtype": (("--dtype", "int8"), "--dtype is one of"),
    "unknown KV dtype": (("--kv-dtype", "int4"), "--kv-dtype takes auto, int8"),
    "idle KV dtype": (("--op", "norm", "--kv-dtype", "int8"), "--kv-dtype has no effect on norm"),
    "simulated device": (("--device", "sim:a100-40gb"), "take cpu or cuda"),
    "unknown device": (("--device", "abacus"), "abacus"),
    "unknown model": (("--model", "opt-14b"), "opt-13b"),
    "idle force": (("--force",), "--force has no effect"),
    "more than the memory": (("--context", "1048576", "--batch", "4096"), "lower --batch, --context"),
    "only calls that are too large": (
        ("--op", "prefill", "--context", "16385"),
        "every case has more than 16384 tokens",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, pagedbench: Command, here: Path) -> None:
    options, words = REFUSED[case]
    answer = pagedbench("kernels", *options)
    assert answer.code == 2
    assert words in answer.sentence
    assert answer.out == ""
    assert not list(here.iterdir())


def test_interrupted(
    pagedbench: Command, quick: tuple[str, ...], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The case that runs is finished and saved; the next is not begun."""
    measure = KernelBench.measure

    def interrupted(bench: KernelBench, case: Planned) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return measure(bench, case)

    monkeypatch.setattr(KernelBench, "measure", interrupted)
    answer = pagedbench(*quick, "--op", "norm,linear", "--kernels", "reference", "--output", "out")
    assert answer.code == 130
    assert json.loads((here / "out" / "manifest.json").read_text())["status"] == "interrupted"
    assert (here / "out" / "kernels.csv").read_text().count("\n") == 1 + 2


def test_wrong_output_is_an_error(
    pagedbench: Command, quick: tuple[str, ...], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(bench: KernelBench, case: Planned) -> object:
        raise WrongOutput("decode by native is wrong")

    monkeypatch.setattr(KernelBench, "measure", wrong)
    answer = pagedbench(*quick, "--output", "out")
    assert answer.code == 1
    assert "decode by native is wrong" in answer.sentence
    assert not (here / "out").exists()
