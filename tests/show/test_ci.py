"""Files for CI servers, annotations with their escapes and limits, and the summary of a step."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pagedbench.runs.file_names import OURS
from pagedbench.show.ci import CI_FILES, MAX_SUMMARY, annotation, announce, ci_texts
from pagedbench.show.judgement import Figure, Outcome
from show.judgements import ALL, FAILED, PASSED, SKIPPED, numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pagedbench.show.judgement import Judgement


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """What `announce` prints under GitHub Actions; nothing of it on stdout."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def run(judgements: Sequence[Judgement], title: str, markdown: str) -> list[str]:
        announce(judgements, title, markdown)
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err.splitlines()

    return run


def test_a_file_a_direction_of_judged_figures() -> None:
    texts = ci_texts(ALL, "t")
    assert tuple(texts) == CI_FILES
    assert set(CI_FILES) <= set(OURS)
    assert json.loads(texts["benchmark-smaller.json"]) == [
        {
            "name": "new: rate 2 / tpot_p50_ms",
            "unit": "ms",
            "value": 11.2,
            "extra": "before: 10.0\ntpot_p50_ms is 12 % worse.",
        }
    ]
    (bigger,) = json.loads(texts["benchmark-bigger.json"])
    assert (bigger["name"], bigger["value"]) == ("new: rate 2 / throughput / request_throughput", 2.0)


def test_a_file_that_would_hold_nothing_is_left_out() -> None:
    assert ci_texts([], "t") == {}
    assert set(ci_texts([SKIPPED], "t")) == {"junit.xml"}
    undefined = replace(FAILED, figures=(Figure("a", "", "lower", 1.0, None),))
    infinite = replace(FAILED, figures=(Figure("a", "", "higher", 1.0, float("inf")),))
    assert set(ci_texts([undefined, infinite], "t")) == {"junit.xml"}


def test_annotations_escape_what_the_runner_would_read() -> None:
    assert annotation("error", "a: 5 %, b\n", "100 %\r\nnext: one, two") == (
        "::error title=a%3A 5 %25%2C b%0A::100 %25%0D%0Anext: one, two"
    )


def test_nothing_is_said_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    for value in (None, "false"):
        monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
        if value is not None:
            monkeypatch.setenv("GITHUB_ACTIONS", value)
        announce(ALL, "t", "text")
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "summary.md").exists()


def test_a_level_an_outcome(said: Callable[..., list[str]]) -> None:
    assert said(ALL, "check", "text") == [
        "::error title=check%3A new%3A rate 2::tpot_p50_ms is 12 %25 worse.",
        "::warning title=check%3A new%3A rate 4::A p99 of 9 requests.",
        "::notice title=check::1 of 3 passed",
    ]
    assert said([PASSED], "check", "text") == ["::notice title=check::1 of 1 passed"]
    assert said([], "check", "text") == []


@pytest.mark.parametrize(("count", "expected"), [(10, 10), (11, 10), (50, 10)])
def test_what_github_would_drop_is_named_in_the_last_one(
    said: Callable[..., list[str]], count: int, expected: int
) -> None:
    errors = [line for line in said(numbered(Outcome.FAILED, count), "t", "") if "::error" in line]
    assert len(errors) == expected
    if count > 10:
        assert f"::{count - 9} more failed: c9, c10" in errors[-1]
    else:
        assert errors[-1].endswith("::Number 9.")


def test_the_summary_is_added_to(
    said: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    said([PASSED], "t", "### passed → \n")
    assert path.read_text(encoding="utf-8") == "before\n### passed → \n"


def test_a_summary_too_long_keeps_the_verdict(
    said: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    said([FAILED], "t", "### REGRESSION\n\nwhat\n\n" + "x" * MAX_SUMMARY)
    assert path.read_text() == (
        "### REGRESSION\n\nwhat\n\nThe rest is too long for a summary of GitHub Actions.\n"
    )


def test_a_summary_that_cannot_be_written_is_a_warning(
    said: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "nowhere" / "summary.md"))
    assert said([PASSED], "t", "text")[-1].startswith("::warning title=t::the summary could not be written")
