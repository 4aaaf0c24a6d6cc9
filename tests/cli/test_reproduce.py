"""`pagedbench reproduce` as it is typed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pagedbench.tools.paper.figures import FIGURES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.command import Answer

    Command = Callable[..., Answer]

QUICK = ("reproduce", "fig11", "fig19a", "--jobs")


def test_a_figure_leaves_tables_pictures_and_the_scorecard(pagedbench: Command, tmp_path: Path) -> None:
    answer = pagedbench(*QUICK, "1", "--output", tmp_path / "out")
    assert answer.code == 0
    assert "Fig. 11: lengths" in answer.out
    assert "Across figures" not in answer.out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    wanted = {"manifest.json", *(f"scorecard.{kind}" for kind in ("csv", "md", "json"))}
    assert names >= wanted | {"fig11.csv", "fig19a.csv"}
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert set(manifest["figures"]) == {"fig11", "fig19a"}
    scorecard = json.loads((tmp_path / "out" / "scorecard.json").read_text())
    assert {row["figure"] for row in scorecard} == {"fig11", "fig19a"}


@pytest.mark.parametrize("kind", ["json", "csv", "md"])
def test_stdout_is_the_scorecard_alone(pagedbench: Command, tmp_path: Path, kind: str) -> None:
    answer = pagedbench("reproduce", "fig19a", "--format", kind, "--output", tmp_path / "out")
    assert answer.out == (tmp_path / "out" / f"scorecard.{kind}").read_text()


def test_twice_gives_the_same_bytes(pagedbench: Command, tmp_path: Path) -> None:
    for name, jobs in (("one", "1"), ("two", "2")):
        assert pagedbench(*QUICK, jobs, "--output", tmp_path / name).code == 0
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")
    )
    del one["manifest.json"], two["manifest.json"]
    assert one == two


def test_a_folder_is_replaced_only_if_asked(pagedbench: Command, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    (folder / "fig2.csv").write_text("of an earlier reproduction")
    refused = pagedbench(*QUICK, "1", "--output", folder)
    assert refused.code == 2
    assert "--force" in refused.sentence
    assert pagedbench(*QUICK, "1", "--output", folder, "--force").code == 0
    assert (folder / "mine.txt").read_text() == "keep"
    assert not (folder / "fig2.csv").exists()
    assert (folder / "fig11.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fig3",), "unknown figure 'fig3'"),
        (("fig2", "--trace", "absent.csv"), "'absent.csv' does not exist"),
        (("fig2", "--trace", "alpaca=x.csv"), "do not replay alpaca"),
        (
            ("fig2", "fig13b", "--trace", "x.csv"),
            "say which one x.csv stands for, as in --trace sharegpt=x.csv",
        ),
        (("fig19a", "--trace", "x.csv"), "replay no data set"),
        (("fig2", "--trace", "a.csv", "--trace", "sharegpt=b.csv"), "two files for sharegpt"),
        (("fig2", "--format", "xml"), "--format is one of"),
        (("fig2", "--jobs", "0"), "--jobs must be at least 1"),
        (("fig2", "--seeds", "0"), "--seeds"),
        (("fig2", "--max-num-seqs", "0"), "--max-num-seqs"),
    ],
)
def test_refusals(pagedbench: Command, arguments: tuple[str, ...], words: str) -> None:
    answer = pagedbench("reproduce", *arguments)
    assert answer.code == 2
    assert words in answer.err
    assert answer.out == ""


def test_a_file_stands_for_the_figures_data_set(pagedbench: Command, tmp_path: Path) -> None:
    lengths = tmp_path / "own.csv"
    lengths.write_text("prompt_len,output_len\n" + "161,338\n" * 50)
    answer = pagedbench(
        "reproduce", "fig11", "--trace", lengths, "--format", "csv", "--output", tmp_path / "out"
    )
    assert answer.code == 0
    assert "fig11,sharegpt,mean prompt,tokens,161.31,161," in answer.out
    assert "fig11,alpaca,mean prompt,tokens,19.31,19.4" in answer.out


def test_help_names_every_figure(pagedbench: Command) -> None:
    text = " ".join(pagedbench("reproduce", "--help").out.replace("│", " ").split())
    for name in FIGURES:
        stem = name.rstrip("abcdef")
        assert stem in text


def test_engines_need_their_published_figures(pagedbench: Command, tmp_path: Path) -> None:
    refused = pagedbench("reproduce", "engines")
    assert refused.code == 2
    assert "--published FILE" in refused.err
    published = tmp_path / "published.csv"
    published.write_text(
        "source,model,card,tensor_parallel,prompt_len,output_len,load,metric,value\n"
        "LMDeploy 0.1.0a1,llama-2-7b,a100-80gb,1,64,4,batch 2,output_tokens_per_s,100\n"
    )
    assert pagedbench("reproduce", "fig11", "--published", published).code == 2
    answer = pagedbench("reproduce", "engines", "--published", published, "--output", tmp_path / "out")
    assert answer.code == 0
    assert "LMDeploy 0.1.0a1" in answer.out
    assert (tmp_path / "out" / "engines.csv").read_text().count("\n") == 2
    assert "| engine | metric |" in (tmp_path / "out" / "engines.md").read_text()


def test_an_interrupted_one_resumes_to_the_same_bytes(
    pagedbench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal arrives after the first of three parts; the second runs then, and may end or be cut."""
    import os
    import signal

    from pagedbench.runs.checkpoint import CELLS, Checkpoint

    keep, kept = Checkpoint.keep, list[object]()

    def interrupt(self: Checkpoint, task: object, result: object) -> None:
        keep(self, task, result)
        kept.append(task)
        if len(kept) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    arguments = (*QUICK, "1", "--output", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "keep", interrupt)
        answer = pagedbench(*arguments)
    assert answer.code == 130
    assert "computes the rest" in answer.err
    assert len(list((tmp_path / "out" / CELLS).iterdir())) == len(kept) < 3
    answer = pagedbench(*arguments)
    assert answer.code == 0
    assert "[3/3]" in answer.err
    assert "[1/3]" not in answer.err
    assert pagedbench(*QUICK, "1", "--output", tmp_path / "whole").code == 0
    resumed, whole = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("out", "whole")
    )
    del resumed["manifest.json"], whole["manifest.json"]
    assert resumed == whole
    assert "not empty" in pagedbench(*arguments).sentence


def test_figures_that_are_whole_are_not_lost_by_asking_for_others(
    pagedbench: Command, tmp_path: Path
) -> None:
    from pagedbench.runs.checkpoint import CELLS

    (tmp_path / "out" / CELLS).mkdir(parents=True)
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({"figures": {"fig2": [], "fig11": []}}))
    refused = pagedbench(*QUICK, "1", "--output", tmp_path / "out")
    assert refused.code == 2
    assert "unfinished reproduction with fig2: name all of its figures" in refused.sentence
