"""`pagedbench check`: verdicts, exit codes, reports, and what becomes of a baseline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pagedbench.tools.check import baseline_file, command, matrix
from pagedbench.tools.check.baseline_file import NAME, PACKAGED, read_baseline
from pagedbench.tools.check.matrix import CASES
from tools.check.mutations import preempt_the_oldest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cli.command import Answer

FEW = tuple(case for case in CASES if case.name in ("paged/recompute", "orca-max/sharegpt"))


@pytest.fixture(scope="module")
def documents() -> dict[str, bytes]:
    """Baselines by the names of their files, once they are saved."""
    return {}


@pytest.fixture
def saved(
    here: Path,
    pagedbench: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
    documents: dict[str, bytes],
) -> Callable[..., Answer]:
    """A matrix of two cases, and its baseline in the current folder."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(matrix, "CASES", FEW)
    if NAME not in documents:
        assert pagedbench("baseline", "save").code == 0
        documents[NAME] = (here / NAME).read_bytes()
    (here / NAME).write_bytes(documents[NAME])
    return pagedbench


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_unchanged_code_passes_twice_alike(saved: Callable[..., Answer]) -> None:
    first, second = saved("check"), saved("check")
    assert first.code == second.code == 0
    assert first.out == second.out
    assert first.out.startswith("Passed: 2 of 2 checks as in the baseline.")
    assert first.err == ""


def test_a_change_fails_after_the_reports(
    saved: Callable[..., Answer], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preempt_the_oldest(monkeypatch)
    answer = saved("check", "--output", here / "out", "--format", "json")
    assert answer.code == 3
    document = json.loads(answer.out)
    assert document["verdict"] == "regression"
    outcomes = {item["name"]: item["outcome"] for item in document["judgements"]}
    assert outcomes == {"paged/recompute": "failed", "orca-max/sharegpt": "passed"}
    assert "other victims" in (here / "out" / "check.md").read_text()
    assert json.loads((here / "out" / "check.json").read_text()) == document
    assert (here / "out" / "junit.xml").exists()


@pytest.mark.parametrize("kind", ["rich", "md", "csv"])
def test_every_format_has_the_sentence(
    kind: str, saved: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    preempt_the_oldest(monkeypatch)
    answer = saved("check", "--case", "paged/*", "--format", kind)
    assert answer.code == 3
    assert "paged/recompute: other victims: at iteration " in answer.out


def test_missing_and_new_cases_do_not_pass(saved: Callable[..., Answer], here: Path) -> None:
    edit(
        here / NAME,
        lambda document: document["cases"].update({"old": document["cases"].pop("paged/recompute")}),
    )
    answer = saved("check", "--output", here / "out")
    assert answer.code == 6
    assert "paged/recompute is not in the baseline" in answer.out
    assert "old is in the baseline but no longer in the matrix" in answer.out
    assert (here / "out" / "check.json").exists()
    assert saved("check", "--case", "orca-max/*").code == 6  # what is gone is gone whatever is asked


def test_update_says_what_changed_and_rewrites(
    saved: Callable[..., Answer], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(here / NAME, lambda document: document.update(wall=WALL))
    preempt_the_oldest(monkeypatch)
    answer = saved("check", "--update")
    assert answer.code == 0
    assert "other victims" in answer.out
    assert f"Baseline written to {NAME}" in answer.err
    assert read_baseline(here / NAME).wall == WALL
    assert saved("check").code == 0
    before = (here / NAME).read_bytes()
    assert "nothing has changed" in saved("check", "--update").err
    assert (here / NAME).read_bytes() == before


WALL: dict[str, Any] = {
    "saved": "2026-01-01T00:00:00Z",
    "machine": {"cpu": "another"},
    "runs": {name: [1.0, 1.1, 0.9] for name in ("tpot_p50_ms", "ttft_p50_ms", "output_throughput")},
}


def test_update_of_a_part_keeps_the_rest(saved: Callable[..., Answer], here: Path) -> None:
    edit(here / NAME, lambda document: document["cases"]["paged/recompute"].update(num_steps=1))
    edit(here / NAME, lambda document: document["cases"]["orca-max/sharegpt"].update(num_steps=1))
    assert saved("check", "--update", "--case", "paged/*").code == 0
    steps = {name: case.num_steps for name, case in read_baseline(here / NAME).cases.items()}
    assert steps["paged/recompute"] > 1
    assert steps["orca-max/sharegpt"] == 1


def test_a_leak_is_never_taken_for_a_baseline(
    saved: Callable[..., Answer], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.check.mutations import leak_a_block_once

    leak_a_block_once(monkeypatch)
    before = (here / NAME).read_bytes()
    answer = saved("check", "--update")
    assert answer.code == 3
    assert "paged/recompute crashed or leaked memory" in answer.err
    assert (here / NAME).read_bytes() == before
    leak_a_block_once(monkeypatch)
    assert saved("baseline", "save", "--output", "other.json").code == 5
    assert not (here / "other.json").exists()


def test_the_package_s_own_is_rewritten_in_its_checkout_alone(
    saved: Callable[..., Answer], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = here / "package" / NAME
    packaged.parent.mkdir()
    (here / NAME).rename(packaged)
    monkeypatch.setattr(baseline_file, "PACKAGED", packaged)
    edit(packaged, lambda document: document["cases"]["paged/recompute"].update(num_steps=1))
    content, elsewhere = packaged.read_bytes(), here / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert saved("check", "--update").code == 0
    assert (elsewhere / NAME).exists()
    assert packaged.read_bytes() == content
    monkeypatch.chdir(here)
    assert saved("check", "--update").code == 0
    assert packaged.read_bytes() == content  # it lies below, but as in a virtual environment
    (here / NAME).unlink()
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for words in (["init", "-q"], ["add", str(packaged)], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], check=True)
    assert saved("check", "--update").code == 0
    assert not (here / NAME).exists()
    assert packaged.read_bytes() != content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is broken JSON"),
        ("[1]", "is not a baseline"),
        ('{"kind": "comparison"}', "is not a baseline"),
        ('{"kind": "pagedbench-baseline", "schema_version": 99}', "has version 99"),
        ('{"kind": "pagedbench-baseline", "schema_version": 1}', "is a damaged baseline"),
        (
            '{"kind": "pagedbench-baseline", "schema_version": 1, "pagedbench": "1", '
            '"saved": "x", "cases": {"a": 1}}',
            "in its case a",
        ),
    ],
)
def test_a_broken_or_foreign_baseline_is_one_sentence(
    content: str, words: str, pagedbench: Callable[..., Answer], here: Path
) -> None:
    (here / NAME).write_text(content)
    answer = pagedbench("check")
    assert answer.code == 2
    assert words in answer.sentence


@pytest.mark.parametrize(
    "arguments",
    [
        ("--baseline", "nowhere.json"),
        ("--baseline", "."),
        ("--case", "nothing*"),
        ("--format", "xml"),
        ("--update", "--wall"),
        ("--force",),
        ("surplus",),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], pagedbench: Callable[..., Answer], here: Path) -> None:
    answer = pagedbench("check", *arguments)
    assert answer.code == 2
    assert answer.sentence
    assert not list(here.iterdir())


@pytest.mark.parametrize("wall", [None, WALL], ids=["without", "of another machine"])
def test_real_runs_without_figures_to_compare(
    wall: object, saved: Callable[..., Answer], here: Path
) -> None:
    edit(here / NAME, lambda document: document.update(wall=wall))
    answer = saved("check", "--wall", "--case", "paged/*")
    assert answer.code == 6
    assert "run pagedbench baseline calibrate on this machine" in " ".join(answer.out.split())


def interrupt_after_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    run_cases = command.run_cases

    def interrupted(cases: Any, stop: Any) -> Any:
        found = run_cases(cases[:1], stop)
        stop.set()
        return found

    monkeypatch.setattr(command, "run_cases", interrupted)


def test_an_interruption_is_reported(
    saved: Callable[..., Answer], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after_a_case(monkeypatch)
    answer = saved("check", "--output", here / "out")
    assert answer.code == 130
    assert "interrupted after 1 of 2 parts" in answer.out
    assert "no longer in the matrix" not in answer.out
    assert (here / "out" / "check.md").exists()


def test_an_interrupted_update_leaves_everything_as_it_was(
    saved: Callable[..., Answer], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reports, too, would stand in the way of the next one's."""
    edit(here / NAME, lambda document: document["cases"]["paged/recompute"].update(num_steps=1))
    before = (here / NAME).read_bytes()
    with monkeypatch.context() as patch:
        interrupt_after_a_case(patch)
        answer = saved("check", "--update", "--output", here / "out")
    assert answer.code == 130
    assert "interrupted after 1 of 2 parts" in answer.out
    assert [path.name for path in here.iterdir()] == [NAME]
    assert (here / NAME).read_bytes() == before
    assert saved("check", "--update", "--output", here / "out").code == 0


def test_an_update_whose_cases_have_all_run_is_finished(
    saved: Callable[..., Answer], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver = command._deliver

    def interrupted(*arguments: Any, **options: Any) -> None:
        deliver(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)

    edit(here / NAME, lambda document: document["cases"]["paged/recompute"].update(num_steps=1))
    monkeypatch.setattr(command, "_deliver", interrupted)
    assert saved("check", "--update", "--output", here / "out").code == 0
    assert (here / "out" / "check.md").exists()
    assert saved("check").code == 0


def test_the_package_s_baseline_is_of_this_matrix() -> None:
    saved = read_baseline(PACKAGED)
    assert list(saved.cases) == [case.name for case in CASES]
    assert not any(footprint.is_faulty for footprint in saved.cases.values())
    assert PACKAGED.stat().st_size < 200_000


def test_no_torch_is_needed(here: Path) -> None:
    script = (
        "import sys\n"
        "from pagedbench.cli.app import main\n"
        "try:\n    main(['check', '--case', 'paged/swap', '--format', 'csv'])\n"
        "except SystemExit as end:\n    assert end.code == 0, end.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=here)
