"""`plot` and `report` on saved runs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from cli.command import SIMULATED, Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Answer]


@pytest.fixture
def sweep(pagedbench: Command) -> str:
    pagedbench(
        "sweep", *SIMULATED, "--duration", "10", "--rate", "1,2", "--system", "paged,ft", "--jobs", "1",
        "--output", "sweep",
    )  # fmt: skip
    return "sweep"


def test_the_terminal_shows_the_curve_without_matplotlib(
    pagedbench: Command, sweep: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    answer = pagedbench("plot", sweep, "--format", "terminal")
    assert (answer.code, answer.err) == (0, "")
    for words in ("OPT-13B, sharegpt", "Paged (vLLM)", "FasterTransformer", "Request rate (req/s)"):
        assert words in answer.out
    assert [path.name for path in here.iterdir()] == ["sweep"]


def test_every_kind_is_drawn_in_the_terminal(pagedbench: Command, sweep: str) -> None:
    answer = pagedbench("plot", sweep, "--format", "terminal", "--kind", "memory,batch,cdf,timeline")
    assert (answer.code, answer.err) == (0, "")
    for words in ("Internal fragmentation", "Batched requests", "Share of requests", "Waiting requests"):
        assert words in answer.out


def test_files_are_named_after_their_kinds(pagedbench: Command, sweep: str, here: Path) -> None:
    pytest.importorskip("matplotlib")
    answer = pagedbench("plot", sweep, "--kind", "latency,batch", "--format", "svg", "--output", "p")
    assert answer.code == 0
    assert sorted(path.name for path in (here / "p").iterdir()) == ["batch.svg", "latency.svg"]
    again = pagedbench("plot", sweep, "--kind", "latency", "--format", "svg", "--output", "p")
    assert again.code == 2
    assert "--force" in again.sentence


def test_without_matplotlib_it_says_what_to_install(
    pagedbench: Command, sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for command, instead in (("plot", "--format terminal"), ("report", "--format md")):
        answer = pagedbench(command, sweep)
        assert answer.code == 2
        assert f"{sys.executable} -m pip install matplotlib; or use {instead}" in answer.sentence


def test_a_format_says_what_the_file_is(pagedbench: Command, sweep: str, here: Path) -> None:
    assert pagedbench("report", sweep, "--format", "vllm").out == "Saved to vllm.json\n"
    lines = (here / "vllm.json").read_text().splitlines()
    assert [json.loads(line)["request_rate"] for line in lines] == [1.0, 2.0, 1.0, 2.0]
    assert pagedbench("report", sweep, "--format", "vllm").code == 2
    assert pagedbench("report", sweep, "--format", "md", "--output", "text").code == 0
    assert (here / "text").read_text().startswith("# ")


def test_a_report_in_both_forms(pagedbench: Command, sweep: str, here: Path) -> None:
    assert pagedbench("report", sweep, "--output", "r.md").code == 0
    text = (here / "r.md").read_text()
    assert text.startswith("# 4 runs of paged, fastertransformer")
    headings = (
        "## Findings",
        "## Caveats",
        "```text\nOPT-13B, sharegpt",
        "## Results",
        "by stage",
        "## Setup",
    )
    places = [text.index(f"{heading}\n") for heading in headings]
    assert places == sorted(places)
    pytest.importorskip("matplotlib", reason="figures of HTML need matplotlib")
    assert pagedbench("report", sweep).code == 0
    page = (here / "report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 5
    assert pagedbench("report", sweep).code == 2


def test_runs_that_did_not_end_are_left_out_of_plots(pagedbench: Command, sweep: str, here: Path) -> None:
    for folder in (here / "sweep").glob("paged*"):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))
    answer = pagedbench("plot", sweep, "--format", "terminal")
    assert answer.code == 0
    assert answer.err.count("Left out: sweep/paged") == 2
    assert "Paged" not in answer.out
    answer = pagedbench("plot", "sweep/paged_sharegpt_r1_s0", "--format", "terminal")
    assert answer.code == 2
    assert "no run is complete" in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plot", "sweep", "--format", "gif"), "--format is png, svg, png,svg or terminal"),
        (("plot", "sweep", "--kind", "pie"), "unknown plot 'pie'"),
        (("plot", "sweep", "--y-max", "0"), "--y-max must be above 0"),
        (("plot", "nowhere"), "there is no folder nowhere"),
        (("report", "sweep", "--output", "x.pdf"), "must end in .html or .md"),
        (("report", "sweep", "--format", "pdf"), "--format is one of html, md, vllm"),
    ],
)
def test_refusals(pagedbench: Command, sweep: str, arguments: tuple[str, ...], words: str) -> None:
    answer = pagedbench(*arguments)
    assert answer.code == 2
    assert words in answer.sentence
