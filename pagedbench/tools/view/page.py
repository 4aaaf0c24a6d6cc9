"""The page of `pagedbench view`: one HTML file, with its style, its program and its data inside."""

from __future__ import annotations

import json
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any

from pagedbench.tools.view.content import page_content

if TYPE_CHECKING:
    from pagedbench.runs.saved import SavedRun

PROGRAM = ("data.js", "drawing.js", "panel.js", "page.js")


def html_page(run: SavedRun) -> str:
    """The page; it loads nothing from elsewhere. Raises the errors of `page_content`."""
    content = page_content(run)
    parts = {
        "@TITLE@": escape(content["title"]),
        "@STYLE@": _file("page.css"),
        "@PROGRAM@": "\n".join(map(_file, PROGRAM)),
    }
    page = _file("page.html")
    for mark, text in parts.items():
        page = page.replace(mark, text)
    return page.replace("@DATA@", _json(content))  # last: nothing in the data is a mark


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _json(content: dict[str, Any]) -> str:
    """JSON for a script element, which only "</" could end."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
