"""A report as one HTML file that needs nothing else: figures lie in it as images."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagedbench.show.story import Section, Story, Table

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child, td:last-child { text-align: left; }
td { overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; }
figcaption { color: #555; }
div { overflow-x: auto; }
""".strip()


def html_report(story: Story, figures: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        figures: caption -> SVG. They follow the first section.
    """
    first, *others = [_section(section) for section in story.sections]
    title = escape(story.title)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        f'<head><meta charset="utf-8"><title>pagedbench: {title}</title>',
        f"<style>\n{STYLE}\n</style></head>",
        f"<body>\n<h1>{title}</h1>",
        first,
        *(_figure(caption, svg) for caption, svg in figures.items()),
        *others,
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.heading)}</h2>"]
    parts += [f"<p>{escape(sentence)}</p>" for sentence in section.sentences]
    if section.table is not None:
        parts.append(_table(section.table))
    return "\n".join(parts)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in table.headings)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows
    )
    head_row = f"<tr>{head}</tr>\n" if any(table.headings) else ""
    return f"<div><table>\n{head_row}{body}\n</table></div>"


def _figure(caption: str, svg: bytes) -> str:
    """An image of its own, so that names within two figures do not meet."""
    data = base64.b64encode(svg).decode()
    text = escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
