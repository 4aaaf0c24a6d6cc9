"""A report says what the runs are, marks the doubtful ones, and stands by itself in HTML and Markdown."""

from __future__ import annotations

import json
import shutil
import subprocess
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

import pagedbench as pb
from pagedbench.runs.numbers import number
from pagedbench.runs.saved import load_run
from pagedbench.tools.report.content import Report, Section, Table, report_of
from pagedbench.tools.report.html import html_report
from pagedbench.tools.report.markdown import markdown_report
from runs.saved_runs import small_sweep

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.runs.saved import SavedRun


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> list[SavedRun]:
    return small_sweep(tmp_path_factory.mktemp("sweep"))


def section_of(report: Report, heading: str) -> Section:
    sections = (*report.opening, *report.details)
    return next(section for section in sections if section.heading == heading)


def table_of(report: Report, heading: str) -> Table:
    table = section_of(report, heading).table
    assert table is not None
    return table


def test_every_run_has_a_row_with_its_values(sweep: list[SavedRun]) -> None:
    report = report_of(sweep[::-1])
    rows = table_of(report, "Results").rows
    assert [row[0] for row in rows] == [
        "paged rate 1, seed 0",
        "paged rate 4, seed 0",
        "paged rate 4, seed 1",
        "orca-max rate 1, seed 0",
        "orca-max rate 4, seed 0",
    ]
    assert rows[0][1] == number(sweep[0].values["normalized_latency_mean_s"])
    setup = dict(table_of(report, "Setup").rows)
    assert setup["Arrivals"] == "poisson at 1 requests/s; poisson at 4 requests/s"
    assert setup["Seed"] in ("0; 1", "1; 0")
    assert "15,696 tokens" in setup["KV pool"]
    assert dict(table_of(report, "Provenance").rows)["Command"] == "pagedbench run"


def test_findings_come_first_and_name_the_fastest_and_the_cause(sweep: list[SavedRun]) -> None:
    report = report_of(sweep)
    assert [section.heading for section in report.opening] == ["Findings", "Caveats"]
    fastest, cause, memory = section_of(report, "Findings").sentences
    paged, orca = (run.values["normalized_latency_mean_s"] for run in (sweep[1], sweep[4]))
    assert fastest == (
        f"sharegpt, poisson at 4 requests/s: paged has a mean normalized latency of {number(paged)} "
        f"s/token; orca-max {number(orca)} ({number(orca / paged)}x)."
    )
    assert "orca-max queueing, fragmentation (" in cause
    assert f"paged {sweep[1].values['kv_token_states_pct']:.1f} %" in memory


def test_the_stages_of_latency_add_up(sweep: list[SavedRun]) -> None:
    table = table_of(report_of(sweep), "Mean end-to-end latency by stage")
    assert table.headings[:4] == ("run", "mean latency", "queueing", "prefill")
    for row in table.rows:
        parts = [float(cell.split()[0].replace(",", "")) for cell in row[2:]]
        assert sum(parts) == pytest.approx(float(row[1].replace(",", "")), rel=0.01)


def test_a_column_of_long_times_is_in_seconds(sweep: list[SavedRun]) -> None:
    table = table_of(report_of(sweep), "Results")
    assert {"TTFT p99 s", "TPOT p50 ms"} <= set(table.headings)
    column = table.headings.index("TTFT p99 s")
    assert table.rows[0][column] == number(sweep[0].values["ttft_p99_ms"] / 1000)


def test_doubts_are_said(sweep: list[SavedRun], tmp_path: Path) -> None:
    assert any("Simulated" in sentence for sentence in section_of(report_of(sweep), "Caveats").sentences)
    folder = tmp_path / "cut"
    folder.mkdir()
    for path in sweep[0].folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"status": "interrupted", "valid": False}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    report = report_of([load_run(folder)])
    assert any("was interrupted" in sentence for sentence in section_of(report, "Caveats").sentences)
    assert table_of(report, "Results").rows[0][-1] == "interrupted"
    assert table_of(report, "Mean end-to-end latency by stage").rows[0][1] == "-"


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
    text = html_report(report_of(sweep), {"a <figure>": b"<svg/>"})
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.sources == ["data:image/svg+xml;base64,PHN2Zy8+"]
    assert "a &lt;figure&gt;" in text


def test_text_of_users_is_not_markup() -> None:
    section = Section("s", ("<i>",), Table(("a", "b"), (("<u>", "1|2"),)))
    report = Report("<em>|x", (section,), ())
    page = html_report(report, {})
    for word in ("<em>", "<i>", "<u>"):
        assert word not in page
    text = markdown_report(report, ["plot\n"])
    assert "| &lt;u> | 1\\|2 |" in text
    assert "```text\nplot\n```" in text


def test_words_break_at_spaces_alone() -> None:
    path = "/".join(["folder"] * 20)
    facts = Table(("", ""), (("Command", f"pagedbench run --output {path}"),))
    numbers = Table(("run", "p90 s/token"), (("orca-max rate 4", "0.383 (12 %)"),))
    page = html_report(Report("t", (Section("s", table=facts), Section("s", table=numbers)), ()), {})
    assert "<b>orca-max</b> rate 4" in page
    assert "p90 <b>s/token</b>" in page
    assert "folder/<wbr>folder" in page
    assert page.count('class="facts"') == page.count('class="numbers"') == 1


BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome-headless-shell",
)
MEASURE = """
<script>
addEventListener("load", () => {
  const broken = [], wide = [];
  for (const cell of document.querySelectorAll("th, td")) {
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      for (const word of texts.currentNode.data.matchAll(/[^\\s\\/,]+/g)) {
        const range = document.createRange();
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        if (new Set([...range.getClientRects()].map(box => Math.round(box.top))).size > 1)
          broken.push(word[0]);
      }
    }
  }
  for (const item of document.querySelectorAll("html, div, td, th, figure"))
    if (item.scrollWidth > item.clientWidth + 1) wide.push(item.tagName + ": " + item.scrollWidth);
  const cells = document.querySelectorAll("td").length;
  document.body.innerHTML = "<pre>" + JSON.stringify({width: innerWidth, cells, broken, wide}) + "</pre>";
});
</script>
"""
"""Words that stand on two lines, and what is wider than its room."""


def test_nothing_breaks_or_overflows_in_a_browser(sweep: list[SavedRun], tmp_path: Path) -> None:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    page = tmp_path / "report.html"
    page.write_text(html_report(report_of(sweep), {}).replace("</body>", f"{MEASURE}</body>"))
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,2000",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout.partition("<pre>")[2].partition("</pre>")[0])
    assert found["width"] <= 1200
    assert found["cells"] > 100
    assert (found["broken"], found["wide"]) == ([], [])


def test_tables_are_narrow_enough_by_their_longest_words(sweep: list[SavedRun]) -> None:
    """What a browser would measure, in characters: text may break between words, numbers may not."""
    character, padding, room = 7.2, 13, 1136  # pixels, at 12 px
    report = report_of(sweep)
    for heading in ("Results", "Mean end-to-end latency by stage", "KV pool"):
        table = table_of(report, heading)
        width = 0.0
        for column, name in enumerate(table.headings):
            words = [*name.split(), *(word for row in table.rows for word in (
                row[column].split() if column == 0 else [row[column]]))]  # fmt: skip
            width += character * max(map(len, words)) + padding
        assert width <= room, heading


def test_spikes_have_a_table_where_there_were_any(sweep: list[SavedRun], tmp_path: Path) -> None:
    for system in ("paged", "orca-max"):
        pb.simulate(
            system=system, model="opt-13b", arrival="spike", spike_duration=10, rate=1, duration=40,
            output=tmp_path / system,
        )  # fmt: skip
    runs = [load_run(tmp_path / system) for system in ("paged", "orca-max")]
    rows = {row[0]: row[1:] for row in table_of(report_of(runs), "Spike").rows}
    for run in runs:
        assert rows[run.system][-1] == f"{run.values['spike_preemptions']:,}"
        assert rows[run.system][3] == f"{run.values['spike_waiting_max']:,}"
    assert "Spike" not in [section.heading for section in report_of(sweep).details]
