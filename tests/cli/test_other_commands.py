"""`systems`, `doctor`, `trace` and the bare command."""

from __future__ import annotations

import gzip
import importlib.metadata
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from pagedbench.cli import checks
from pagedbench.cli.checks import Finding, Readiness
from pagedbench.simulation.cards import CARDS, NOT_VERIFIED
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.systems import ALIASES, SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.command import Answer

    Command = Callable[..., Answer]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("trace",)])
def test_help(pagedbench: Command, arguments: tuple[str, ...]) -> None:
    answer = pagedbench(*arguments)
    assert answer.code == 0
    assert "Commands" in answer.out


def test_systems_lists_the_table(pagedbench: Command) -> None:
    answer = pagedbench("systems")
    assert answer.code == 0
    for name in (*SYSTEMS, *ALIASES):
        assert name in answer.out


@pytest.mark.parametrize(
    ("verdicts", "code"), [([Readiness.OK, Readiness.NOTE], 0), ([Readiness.OK, Readiness.FAIL], 1)]
)
def test_doctor_ends_with_a_verdict(
    pagedbench: Command, monkeypatch: pytest.MonkeyPatch, verdicts: list[Readiness], code: int
) -> None:
    findings = [Finding(f"thing {index}", verdict, "[as it is]") for index, verdict in enumerate(verdicts)]
    monkeypatch.setattr(checks, "all_findings", lambda: findings)
    answer = pagedbench("doctor")
    assert answer.code == code
    last = answer.out.splitlines()[-1]
    assert last.startswith("Ready" if code == 0 else "Not ready: thing 1")
    assert "[as it is]" in answer.out


def test_doctor_lists_models_with_their_bytes(pagedbench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    answer = pagedbench("doctor", "--models")
    assert answer.code == 0
    lines = {line.split()[0]: " ".join(line.split()) for line in answer.out.splitlines() if line.strip()}
    assert set(BUILT_IN_SHAPES) <= set(lines)
    gemma, mixtral = lines["gemma-3-12b"], lines["mixtral-8x7b"]
    assert gemma.startswith("gemma-3-12b 11.77 48 8 x 256 384 0.81 GiB 131,072 40 layers: 1,024 google/")
    assert mixtral.startswith("mixtral-8x7b 46.70 32 8 x 128 128 1.00 GiB 32,768 2 of 8 mistralai/")
    assert "Ready" not in answer.out


def test_doctor_lists_cards_with_their_verification(
    pagedbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    answer = pagedbench("doctor", "--cards")
    assert answer.code == 0
    lines = {line.split()[0]: line for line in answer.out.splitlines() if line.strip()}
    assert set(CARDS) <= set(lines)
    assert NOT_VERIFIED in lines["b200"]
    assert "calibrate --operator-times" in lines["h100"]


def test_doctor_looks_at_this_machine() -> None:
    subjects = {finding.subject: finding for finding in checks.all_findings()}
    expected = {
        "python",
        "torch",
        "packages",
        "matplotlib",
        "cpu",
        "compiler",
        "kernels",
        "threads",
        "cuda",
    }
    assert {*expected, "memory", "disk", "traces"} <= set(subjects)
    assert subjects["python"].verdict is Readiness.OK


def test_doctor_says_how_to_get_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    install = f"{sys.executable} -m pip install"
    assert checks.check_matplotlib() == Finding(
        "matplotlib", Readiness.NOTE, f"missing, so no plots: {install} matplotlib"
    )
    assert checks.check_packages().verdict is Readiness.FAIL
    assert f"{install} numpy pandas" in checks.check_packages().text
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert checks.check_compiler().verdict is Readiness.NOTE


def test_doctor_fails_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "DISK_BYTES", 2**80)
    assert checks.check_disk().verdict is Readiness.FAIL


def test_doctor_names_what_killed_runs_left(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(here / "temporary"))
    assert checks.check_remains() == Finding("half-written", Readiness.OK, "nothing")
    dead, other = f".x.incomplete-{10**9}", f".y.incomplete-{10**9}-1-00000000"
    (here / "results" / "sweep" / dead).mkdir(parents=True)
    (here / "temporary" / other).mkdir(parents=True)
    finding = checks.check_remains()
    assert finding.verdict is Readiness.NOTE
    assert f"removed by the next run there: results/sweep/{dead}; " in finding.text
    assert finding.text.endswith(f"another system or user: {here / 'temporary' / other}")


def test_doctor_fails_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "available_memory", lambda: 2**20)
    assert checks.check_default_run().verdict is Readiness.FAIL


def test_trace_list(pagedbench: Command) -> None:
    answer = pagedbench("trace", "list")
    assert answer.code == 0
    for words in ("sharegpt", "alpaca", "synthetic", "161.31 / 337.99"):
        assert words in answer.out


def test_trace_show(pagedbench: Command, here: Path) -> None:
    (here / "t.csv").write_text("prompt_len,output_len,arrival_s\n3,8,0\n3,9,1\n1,300,2\n")
    answer = pagedbench("trace", "show", "t.csv")
    assert answer.code == 0
    assert "t.csv, 3 rows" in answer.out
    assert "--arrival trace" in answer.out
    bins = [line.split() for line in answer.out.splitlines() if line.strip().endswith("%")]
    assert [cells[0] for cells in bins][:4] == ["1", "2-3", "4-7", "8-15"]
    assert bins[-1][0] == "256-511"
    assert bins[1][1:3] == ["█" * 22, "66.7%"]


def test_trace_import_counts_text(pagedbench: Command, here: Path, test_data: Path) -> None:
    text = '[{"instruction": "Hello world", "input": "", "output": "Hello"}]'
    (here / "a.json.gz").write_bytes(gzip.compress(text.encode()))
    tokenizer = test_data / "tokenizers" / "opt"
    answer = pagedbench("trace", "import", "a.json.gz", "--tokenizer", tokenizer, "--output", "a.csv")
    assert (answer.code, answer.out) == (0, "Wrote 1 rows to a.csv\n")
    assert (here / "a.csv").read_text() == "prompt_len,output_len\n4,2\n"


def test_trace_synth_is_the_bundled_trace(pagedbench: Command, here: Path) -> None:
    assert pagedbench("trace", "synth", "alpaca", "--output", "a.csv").code == 0
    shown = [pagedbench("trace", "show", name).out for name in ("a.csv", "alpaca")]
    histograms = [text[text.index("prompts") :] for text in shown]
    assert histograms[0] == histograms[1]


@pytest.mark.parametrize("arguments", [("systems",), ("reproduce", "fig11", "--trace", "sharegpt=t.csv")])
def test_narrow_terminals_cut_nothing(
    pagedbench: Command, here: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    (here / "t.csv").write_text("prompt_len,output_len\n100,100\n")
    for width in ("40", "80"):
        monkeypatch.setenv("COLUMNS", width)
        answer = pagedbench(*arguments)
        assert answer.code == 0
        assert "…" not in answer.out
