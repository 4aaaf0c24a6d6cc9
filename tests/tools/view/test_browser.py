"""The page in a real browser: it is drawn, says nothing on the console, and answers to clicks and keys."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from pagedbench.runs.saved import load_run
from pagedbench.tools.view.page import html_page
from tools.view.browser import Browser, programs
from tools.view.runs import saved_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    programs() is None, reason="no browser: install chromium and chromium-driver (Debian's packages)"
)

COLOURS = """
const canvas = document.getElementById("pool"), copy = new OffscreenCanvas(canvas.width, canvas.height);
const pen = copy.getContext("2d", { willReadFrequently: true });
pen.drawImage(canvas, 0, 0);
const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
const found = new Map();
for (let i = 0; i < data.length; i += 4) {
  const colour = `${data[i]},${data[i + 1]},${data[i + 2]}`;
  if (data[i + 3]) found.set(colour, (found.get(colour) ?? 0) + 1);
}
return Object.fromEntries(found);
"""
PANEL = "return document.getElementById('panel').textContent"
BOX = (
    "const box = document.getElementById('pool').getBoundingClientRect(); return [box.x, box.y, box.width]"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(browser: Browser, recomputing: Path, tmp_path: Path) -> Browser:
    """The browser with the view of a preempting run."""
    opened(browser, recomputing, tmp_path)
    return browser


def opened(browser: Browser, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "view.html"
    path.write_text(html_page(load_run(folder)), encoding="utf-8")
    browser.open(path)
    drawn(browser)


def drawn(browser: Browser) -> dict[str, int]:
    """Pixels by colour, once all that is due has been drawn."""
    browser.wait_for("return !isDue")
    found: dict[str, int] = browser.run(COLOURS)
    return found


def rows_of(folder: Path, column: str) -> Any:
    log = load_run(folder).preemptions
    assert log is not None
    return log[column].tolist()


def test_it_is_drawn_without_an_error(page: Browser) -> None:
    colours = drawn(page)
    assert len([colour for colour, number in colours.items() if number > 500]) > 10, "many owners"
    assert page.messages() == []
    assert "simulated" in page.run("return document.querySelector('h1').innerText")


def test_every_mode_draws_another_picture(page: Browser) -> None:
    pictures = []
    for key in "1234x":
        page.type(key)
        pictures.append(drawn(page))
    assert all(one != other for one, other in pairwise(pictures))
    assert page.messages() == []


def test_a_click_on_a_preemption_says_what_happened(page: Browser, recomputing: Path) -> None:
    victim, cause, lost = (
        rows_of(recomputing, name)[0] for name in ("victim_request_id", "cause_request_id", "tokens_lost")
    )
    left, top, width = page.run(BOX)
    share = page.run("return (xOfStep(columns.preemption_step[0]) - view.x0) / (view.x1 - view.x0)")
    margin = page.run("return LEFT")
    page.click(left + margin + share * (width - margin), top + 6)
    drawn(page)
    panel = page.run(PANEL)
    assert "Preemption 1 of " in panel
    assert f"who lostrequest {victim}" in panel
    assert f"who needed roomrequest {cause}" in panel or cause == victim
    assert f"computed again{lost:,} token" in panel
    assert "came back" in panel
    assert page.messages() == []


def test_keys_step_through_preemptions_and_evictions(page: Browser, recomputing: Path) -> None:
    page.type("nn")
    assert "Preemption 2 of " in page.run(PANEL)
    page.type("p")
    assert "Preemption 1 of " in page.run(PANEL)
    page.type("e")
    assert "Eviction of " in page.run(PANEL)
    assert "who needed roomrequest " in page.run(PANEL)
    page.type("\ue00c")  # Escape
    assert f"preemptions{len(rows_of(recomputing, 'step')):,}" in page.run(PANEL)


def test_a_request_is_found_and_its_blocks_stand_out(page: Browser) -> None:
    before = drawn(page)
    page.run("const field = document.getElementById('search'); field.value = '7';"
             "field.dispatchEvent(new Event('change'))")  # fmt: skip
    after = drawn(page)
    assert "Request 7" in page.run(PANEL)
    accent = page.run("return colours.cause.join(',')")
    assert after.get(accent, 0) > before.get(accent, 0) + 50


def test_a_click_on_a_block_names_its_owner(page: Browser) -> None:
    left, top, width = page.run(BOX)
    x, y, owner = page.run(
        "const i = columns.rect_start.findIndex((start, i) => (columns.rect_end[i] - start) * "
        "columns.rect_height[i] === Math.max(...Array.from(columns.rect_start, (s, k) => "
        "(columns.rect_end[k] - s) * columns.rect_height[k])));"
        "const box = document.getElementById('pool').getBoundingClientRect();"
        "const middle = (edges[0][i] + edges[1][i]) / 2, row = rowOf(i) + columns.rect_height[i] / 2;"
        "return [LEFT + (middle - view.x0) / (view.x1 - view.x0) * (box.width - LEFT),"
        "MARKS + row / numRows * (box.height - MARKS - BOTTOM), columns.rect_owner[i]]"
    )
    assert 0 < x < width
    page.click(left + x, top + y)
    assert f"Request {owner}" in page.run(PANEL)
    assert "from" in page.run(PANEL)


@pytest.mark.parametrize("kind", ["swapping", "contiguous"])
def test_other_runs_are_drawn_too(
    browser: Browser, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    opened(browser, request.getfixturevalue(kind), tmp_path)
    for key in "1234n":
        browser.type(key)
        assert len(drawn(browser)) > 3
    if kind == "swapping":
        assert "nothing: its blocks moved to the host" in browser.run(PANEL)
    assert browser.messages() == []


def test_nobody_owns_a_block_while_the_engine_waits(browser: Browser, tmp_path: Path) -> None:
    saved_run(tmp_path / "run", rate=0.2, duration=30.0)
    steps = load_run(tmp_path / "run").steps
    ends = (steps["t_s"] + steps["step_ms"] / 1000).to_numpy()
    waits = steps["t_s"].to_numpy()[1:] - ends[:-1]
    middle = ends[waits.argmax()] + waits.max() / 2
    assert waits.max() > 0.5
    opened(browser, tmp_path / "run", tmp_path)
    owned = "return edges[0].some((start, i) => start <= {0} && {0} < edges[1][i])"
    assert browser.run(owned.format(middle)) is False
    assert browser.run(owned.format(steps["t_s"].iloc[0] + 1e-3)) is True
