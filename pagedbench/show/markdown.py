"""A report as Markdown: tables, and curves drawn with characters, so that it stands by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.show.table import Column, Table, escaped, markdown_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.show.story import Section, Story


def markdown_report(story: Story, plots: Sequence[str]) -> str:
    """The text. `plots`: of fixed width; they follow the first section."""
    first, *others = [_section(section) for section in story.sections]
    blocks = [f"```text\n{plot.rstrip()}\n```\n" for plot in plots]
    return "\n".join([f"# {escaped(story.title)}\n", first, *blocks, *others])


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
