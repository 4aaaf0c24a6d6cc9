"""A report as self-contained Markdown: tables, and curves drawn with characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.show.table import Column, Table, escaped, markdown_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.tools.report.content import Report, Section


def markdown_report(report: Report, plots: Sequence[str]) -> str:
    """The text. `plots`: text of fixed width, which comes after the findings and the caveats."""
    opening, details = (map(_section, sections) for sections in (report.opening, report.details))
    blocks = [f"```text\n{plot.rstrip()}\n```\n" for plot in plots]
    return "\n".join([f"# {escaped(report.title)}\n", *opening, *blocks, *details])


def _section(section: Section) -> str:
    parts = [f"## {section.heading}\n"]
    if section.sentences:
        parts.append("\n\n".join(map(escaped, section.sentences)) + "\n")
    if section.table is not None:
        is_facts = not any(section.table.headings)
        columns = (
            Column(heading, is_text=is_facts or not index)
            for index, heading in enumerate(section.table.headings)
        )
        parts.append(markdown_table(Table(tuple(columns), section.table.rows)))
    return "\n".join(parts)
