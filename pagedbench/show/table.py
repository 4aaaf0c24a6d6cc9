"""Table: one structure behind every table that is printed, on a terminal and in Markdown.

A table that is wider than the terminal becomes several, one below another: each begins with the columns
that name a row, and columns with a high `priority` number move down first. No word and no figure is cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import number, scale
from pagedbench.show.console import is_ascii, say, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items

    from rich.console import Console
    from rich.text import Text

GAP = "  "
BEST = "*"
MOST_HEADING_LINES = 2
LEAST_TEXT = 24
"""Fewest characters per line of text that wraps."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column and its layout.

    Attributes:
        heading: the heading on a terminal, where it wraps to the width of the cells.
        unit: follows the heading; large times are shown in a larger unit.
        name: the heading in Markdown; if empty, heading and unit.
        is_key: it names the row, and is repeated in every part of a table that is split.
        is_text: aligned to the left; figures are aligned to the right.
        wraps: long text may take several lines.
        priority: columns with a high number leave a narrow table first.
    """

    heading: str = ""
    unit: str = ""
    name: str = ""
    is_key: bool = False
    is_text: bool = False
    wraps: bool = False
    is_dim: bool = False
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, its style, and a dim note such as a ratio."""

    value: object
    note: str = ""
    style: str = ""
    is_best: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of values or cells. `style` of a cell and `is_dim` of a column are for terminals."""

    columns: tuple[Column, ...]
    rows: Items[Items[object]]


@dataclass(slots=True)
class _Shown:
    """A column as text: the heading and, for each row, the value, the note and the style."""

    column: Column
    heading: str
    texts: list[str]
    notes: list[str]
    styles: list[str]
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.width = max([_heading_width(self.heading), *map(len, self._whole())])

    def _whole(self) -> list[str]:
        return [text + note for text, note in zip(self.texts, self.notes, strict=True)]

    @property
    def least(self) -> int:
        """The smallest width in which no word is cut, and wrapped text is readable."""
        if not self.column.wraps:
            return self.width
        words = (word for text in (self.heading, *self._whole()) for word in text.split())
        return min(self.width, max([LEAST_TEXT, *map(len, words)]))

    def lines(self, row: int) -> list[tuple[str, str]]:
        """The lines of a cell, each as value and note."""
        text, note = self.texts[row], self.notes[row]
        return [(line, "") for line in wrapped(text, self.width)] if self.column.wraps else [(text, note)]


def _heading_width(heading: str) -> int:
    """The smallest width in which the heading takes at most two lines, and no word is cut."""
    width = max((len(word) for word in heading.split()), default=0)
    while len(wrapped(heading, width)) > MOST_HEADING_LINES:
        width += 1
    return width


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """A table of labels and sentences, without headings."""
    columns = (Column(is_key=True, is_text=True), Column(is_text=True, wraps=True))
    return Table(columns, [(Cell(label, style="bold"), text) for label, text in rows])


def print_table(console: Console, table: Table, title: str = "") -> None:
    """Print the table within the console's width, split into as many parts as needed."""
    if title:
        say(console, title, "bold")
    has_headings = any(column.heading for column in table.columns)
    for part in _parts([_shown(table, index) for index in range(len(table.columns))], console.width):
        if has_headings and not title:
            console.print()
        width = min(_total([item.width for item in part]), console.width)
        rule = ("-" if is_ascii(console) else "─") * width
        for line in _lines(part, len(table.rows), rule):
            console.print(line, soft_wrap=True)
        title = ""
    if has_headings:
        console.print()


def markdown_table(table: Table) -> str:
    """The whole table in Markdown: figures aligned right, the best of a column in bold."""
    headings = [item.name or f"{item.heading} {item.unit}".strip() for item in table.columns]
    lines = [headings, ["---" if item.is_text else "---:" for item in table.columns]]
    lines += [[_markdown(_cell(item)) for item in row] for row in table.rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _markdown(cell: Cell) -> str:
    text = escaped(number(cell.value))
    return " ".join(filter(None, (f"**{text}**" if cell.is_best else text, cell.note)))


def escaped(text: str) -> str:
    """Text for Markdown, where a bar would end a cell and an angle bracket would begin an HTML tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def _shown(table: Table, index: int) -> _Shown:
    """A column as text. Large times are in a larger unit; the best figure gets a star."""
    column = table.columns[index]
    cells = [_cell(row[index]) for row in table.rows]
    sizes = [abs(cell.value) for cell in cells if isinstance(cell.value, int | float)]
    factor, unit = scale(max(sizes, default=0.0), column.unit)
    texts = [_text(cell.value, factor) for cell in cells]
    if any(cell.is_best for cell in cells):
        texts = [text + (BEST if cell.is_best else " ") for cell, text in zip(cells, texts, strict=True)]
    widest = max((len(cell.note) for cell in cells), default=0)
    notes = [f" {cell.note:<{widest}}" if widest else "" for cell in cells]
    styles = [cell.style or ("dim" if column.is_dim else "") for cell in cells]
    return _Shown(column, f"{column.heading} {unit}".strip(), texts, notes, styles)


def _cell(value: object) -> Cell:
    return value if isinstance(value, Cell) else Cell(value)


def _text(value: object, factor: float) -> str:
    return number(value * factor if isinstance(value, int | float) and factor != 1 else value)


def _parts(columns: list[_Shown], width: int) -> Iterable[list[_Shown]]:
    """The columns of each part, so that every part fits; at least one column besides the keys."""
    keys = [item for item in columns if item.column.is_key]
    others = [item for item in columns if not item.column.is_key]
    while True:
        part = list(others)
        while len(part) > 1 and _total([item.least for item in keys + part]) > width:
            least_important = max(item.column.priority for item in part)
            last = max(i for i, item in enumerate(part) if item.column.priority == least_important)
            del part[last]
        _narrow(keys + part, width)
        yield keys + part
        others = [item for item in others if not any(item is other for other in part)]
        if not others:
            return


def _narrow(columns: list[_Shown], width: int) -> None:
    """Make columns that wrap as narrow as necessary, the widest first."""
    while _total([item.width for item in columns]) > width:
        wide = [item for item in columns if item.width > item.least]
        if not wide:
            return
        max(wide, key=lambda item: item.width).width -= 1


def _total(widths: list[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _lines(columns: list[_Shown], num_rows: int, rule: str) -> Iterable[Text]:
    """The lines of a part: headings, if any, over the rule, then the rows."""
    from rich.text import Text

    if any(item.heading for item in columns):
        headings = [wrapped(item.heading, item.width) for item in columns]
        for above in reversed(range(max(map(len, headings)))):
            texts = [lines[-above - 1] if above < len(lines) else "" for lines in headings]
            aligned = (_aligned(item, text) for item, text in zip(columns, texts, strict=True))
            yield Text(GAP.join(aligned).rstrip(), style="bold")
        yield Text(rule, style="dim")
    for row in range(num_rows):
        cells = [item.lines(row) for item in columns]
        for place in range(max(map(len, cells))):
            line = Text()
            for item, lines in zip(columns, cells, strict=True):
                text, note = lines[place] if place < len(lines) else ("", "")
                padding = " " * (item.width - len(text) - len(note))
                before, behind = ("", padding) if item.column.is_text else (padding, "")
                line.append(before).append(text, style=item.styles[row]).append(note, style="dim")
                line.append(behind + GAP)
            line.rstrip()
            yield line


def _aligned(item: _Shown, text: str) -> str:
    return f"{text:<{item.width}}" if item.column.is_text else f"{text:>{item.width}}"
