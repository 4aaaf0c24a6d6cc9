"""One table, printed at any width and in Markdown."""

from __future__ import annotations

import io

from rich.console import Console

from pagedbench.show.table import Cell, Column, Table, facts, markdown_table, print_table

TABLE = Table(
    (
        Column("system", name="system", is_key=True, is_text=True),
        Column("throughput requests/s", name="request_throughput"),
        Column("TTFT p99", "ms", name="ttft_p99_ms", priority=2),
        Column("batch size", name="running_mean", priority=1),
        Column("state", is_text=True),
    ),
    (
        ("paged", Cell(1.25, "1.00x", is_best=True), 35.5, 6.0, "valid"),
        ("orca-max", Cell(0.5, "0.400x"), 2_491_907.0, None, "overloaded"),
    ),
)


def printed(table: Table, width: int, title: str = "") -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_table(console, table, title)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_wide_table_is_one_part() -> None:
    lines = printed(TABLE, 100)
    assert lines[0] == ""
    assert lines[1].split() == ["throughput", "TTFT", "batch"]
    assert lines[2].split() == ["system", "requests/s", "p99", "s", "size", "state"]
    assert set(lines[3]) == {"─"}
    assert lines[4].split() == ["paged", "1.25*", "1.00x", "0.0355", "6.00", "valid"]
    assert lines[5].split() == ["orca-max", "0.500", "0.400x", "2,492", "-", "overloaded"]


def test_figures_end_where_figures_end() -> None:
    lines = printed(TABLE, 100)
    assert lines[4].index("*") == lines[5].index("0.500") + len("0.500")
    assert lines[4].index("6.00") + 3 == lines[5].index(" - ") + 1


def test_a_narrow_table_is_stacked_by_priority_and_loses_nothing() -> None:
    words = {word for line in printed(TABLE, 100) for word in line.split() if set(word) != {"─"}}
    for width in (46, 36, 30):
        lines = printed(TABLE, width)
        assert max(map(len, lines)) <= width
        assert {word for line in lines for word in line.split() if set(word) != {"─"}} == words
    lines = printed(TABLE, 46)
    first = next(i for i, line in enumerate(lines) if line.startswith("system"))
    assert "p99" not in lines[first]  # the highest number leaves first
    assert "size" in lines[first]
    assert sum(line.startswith("orca-max") for line in lines) == 2


def test_text_wraps_between_words() -> None:
    sentence = "vLLM: small blocks, taken one by one as the reply grows."
    lines = printed(facts([("System", sentence), ("Model", "opt-13b")]), 40)
    assert all(len(line) <= 40 for line in lines)
    assert " ".join(" ".join(lines[:-1]).split()) == f"System {sentence}"
    assert lines[1].startswith("        ")
    assert lines[-1] == "Model   opt-13b"
    (line,) = printed(facts([("Saved to", "a/" + "x" * 60)]), 40)
    assert line.endswith("x" * 60)  # a path stays whole


def test_a_title_stands_above_the_first_part() -> None:
    lines = printed(TABLE, 36, "All systems")
    assert lines[0] == "All systems"
    assert sum("All systems" in line for line in lines) == 1


def test_markdown_has_names_units_and_bold() -> None:
    lines = markdown_table(TABLE).splitlines()
    assert lines[0] == "| system | request_throughput | ttft_p99_ms | running_mean | state |"
    assert lines[1] == "| --- | ---: | ---: | ---: | --- |"
    assert lines[2] == "| paged | **1.25** 1.00x | 35.5 | 6.00 | valid |"
    assert lines[3] == "| orca-max | 0.500 0.400x | 2,491,907 | - | overloaded |"
    (_, _, row) = markdown_table(Table((Column("a", is_text=True),), [["x | <b>"]])).splitlines()
    assert row == "| x \\| &lt;b> |"


def test_ascii_streams_get_ascii_rules() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_table(Console(file=stream, width=80), TABLE)
    stream.seek(0)
    assert "-----" in stream.read()
