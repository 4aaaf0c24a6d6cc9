"""A report says what the runs are, marks the doubtful ones, and stands by itself in HTML and Markdown."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from pagedbench.runs.numbers import number
from pagedbench.runs.saved import load_run
from pagedbench.show.html import html_report
from pagedbench.show.markdown import markdown_report
from pagedbench.show.story import Section, Story, Table, story_of
from runs.saved_runs import small_sweep

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.runs.saved import SavedRun


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> list[SavedRun]:
    return small_sweep(tmp_path_factory.mktemp("sweep"))


def table_of(story: Story, heading: str) -> Table:
    table = next(section.table for section in story.sections if section.heading == heading)
    assert table is not None
    return table


def test_every_run_has_a_row_with_its_figures(sweep: list[SavedRun]) -> None:
    story = story_of(sweep[::-1])
    rows = table_of(story, "Results").rows
    assert [row[0] for row in rows] == [
        "paged rate 1, seed 0",
        "paged rate 4, seed 1",
        "paged rate 4, seed 0",
        "orca-max rate 1, seed 0",
        "orca-max rate 4, seed 0",
    ]
    assert rows[0][1] == number(sweep[0].values["normalized_latency_mean_s"])
    setup = dict(table_of(story, "What ran").rows)
    assert setup["Arrivals"] == "poisson at 1 requests/s; poisson at 4 requests/s"
    assert setup["Seed"] in ("0; 1", "1; 0")
    assert "15,696 tokens" in setup["KV pool"]
    assert dict(table_of(story, "Where it comes from").rows)["Command"] == "pagedbench run"


def test_doubts_are_said(sweep: list[SavedRun], tmp_path: Path) -> None:
    remarks = next(section for section in story_of(sweep).sections if section.heading == "To mind")
    assert any("Simulated" in sentence for sentence in remarks.sentences)
    folder = tmp_path / "cut"
    folder.mkdir()
    for path in sweep[0].folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"status": "interrupted", "valid": False}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    story = story_of([load_run(folder)])
    remarks = next(section for section in story.sections if section.heading == "To mind")
    assert any("was interrupted" in sentence for sentence in remarks.sentences)
    assert table_of(story, "Results").rows[0][-1] == "interrupted"


class _Page(HTMLParser):
    """Collects the tags, and checks that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_beside_it(sweep: list[SavedRun]) -> None:
    text = html_report(story_of(sweep), {"a <figure>": b"<svg/>"})
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.sources == ["data:image/svg+xml;base64,PHN2Zy8+"]
    assert "a &lt;figure&gt;" in text


def test_text_of_users_is_not_markup() -> None:
    story = Story("<b>|x", (Section("s", ("<i>",), Table(("a", "b"), (("<u>", "1|2"),))),))
    page = html_report(story, {})
    for word in ("<b>", "<i>", "<u>"):
        assert word not in page
    text = markdown_report(story, ["plot\n"])
    assert "| &lt;u> | 1\\|2 |" in text
    assert "```text\nplot\n```" in text
