"""A report as Markdown: tables, and curves drawn with characters, so that it stands by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.show.report_content import Report, Section, Table


def markdown_report(report: Report, plots: Sequence[str]) -> str:
    """The text. `plots`: of fixed width; they follow the findings and the caveats."""
    opening, details = (map(_section, sections) for sections in (report.opening, report.details))
    blocks = [f"```text\n{plot.rstrip()}\n```\n" for plot in plots]
    return "\n".join([f"# {escaped(report.title)}\n", *opening, *blocks, *details])


def _section(section: Section) -> str:
    parts = [f"## {section.heading}\n"]
    if section.sentences:
        parts.append(
            "".join(f"{escaped(sentence)}\n\n" for sentence in section.sentences).rstrip("\n") + "\n"
        )
    if section.table is not None:
        parts.append(_table(section.table))
    return "\n".join(parts)


def _table(table: Table) -> str:
    """Names to the left, figures to the right; headings are needed even where they are empty."""
    is_facts = not any(table.headings)
    rule = ["---"] + ["---" if is_facts else "---:"] * (len(table.headings) - 1)
    lines = [table.headings, rule, *table.rows]
    return "".join(f"| {' | '.join(escaped(cell) for cell in line)} |\n" for line in lines)


def escaped(text: str) -> str:
    """A bar would end a cell; what stands between angle brackets would be taken for HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;")
