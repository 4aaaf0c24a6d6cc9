"""A report as one self-contained HTML file: charts are images within it."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagedbench.tools.report.content import Report, Section, Table

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 73rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
table { border-collapse: collapse; font-size: 12px; }
th, td { padding: 0.2rem 0.4rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
.numbers td { white-space: nowrap; }
th:first-child, td:first-child, .facts td { text-align: left; white-space: normal; }
.facts { font-size: 13px; }
b { font-weight: inherit; white-space: nowrap; }
img { max-width: 100%; height: auto; }
figcaption { color: #555; }
div { overflow-x: auto; }
""".strip()
"""Numbers stay on one line; text breaks only between words (`b`)."""

LONGEST_WORD = 60
"""A word with at least this many characters, such as a path, may break after a slash or a comma."""


def html_report(report: Report, charts: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        charts: caption -> SVG. They come after the findings and the caveats.
    """
    title = escape(report.title)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        f'<head><meta charset="utf-8"><title>pagedbench: {title}</title>',
        f"<style>\n{STYLE}\n</style></head>",
        f"<body>\n<h1>{title}</h1>",
        *map(_section, report.opening),
        *(_figure(caption, svg) for caption, svg in charts.items()),
        *map(_section, report.details),
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.heading)}</h2>"]
    parts += [f"<p>{_words(sentence)}</p>" for sentence in section.sentences]
    if section.table is not None:
        parts.append(_table(section.table))
    return "\n".join(parts)


def _table(table: Table) -> str:
    kind = "numbers" if any(table.headings) else "facts"
    head = "".join(f"<th>{_words(heading)}</th>" for heading in table.headings)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{_words(cell)}</td>' for cell in row)}</tr>" for row in table.rows
    )
    head_row = f"<tr>{head}</tr>\n" if any(table.headings) else ""
    return f'<div><table class="{kind}">\n{head_row}{body}\n</table></div>'


def _words(text: str) -> str:
    """Text that breaks only at spaces: browsers would also break after hyphens and slashes."""
    words = []
    for word in text.split(" "):
        if len(word) > LONGEST_WORD:
            words.append(escape(word).replace("/", "/<wbr>").replace(",", ",<wbr>"))
        else:
            words.append(escape(word) if word.isalnum() else f"<b>{escape(word)}</b>")
    return " ".join(words)


def _figure(caption: str, svg: bytes) -> str:
    """An image element, so that names within two charts do not collide."""
    data = base64.b64encode(svg).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
