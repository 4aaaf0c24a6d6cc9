"""The text for a pull request: a clear word, what regressed, what could be seen, and the rest folded."""

from __future__ import annotations

from pagedbench.tools.compare.change_documents import changes_document
from pagedbench.tools.compare.comparison import Comparison, Side, compare_sides
from pagedbench.tools.compare.gate import Gate
from tools.compare.runs import VIRTUAL, make_run, repeats, side

STEADY = (10.0, 10.1, 9.9, 10.05)


def markdown(*sides: Side, gated: tuple[str, ...] = ("tpot_p50_ms",)) -> str:
    return changes_document(compared(*sides, gated=gated), "md")


def compared(*sides: Side, gated: tuple[str, ...]) -> Comparison:
    gate = Gate(gated, threshold=0.05) if gated else None
    return compare_sides(sides[0], sides[1:], threshold=0.05, gate=gate, metrics=())


def steady(label: str, factor: float) -> Side:
    scatter = (1.0, 1.01, 0.99, 1.0)
    values = [value * factor * noise for value, noise in zip(STEADY, scatter, strict=True)]
    return side(label, repeats("tpot_p50_ms", values if factor != 1 else STEADY))


def test_a_regression_comes_first_with_its_numbers() -> None:
    lines = markdown(steady("old", 1.0), steady("new", 1.2)).splitlines()
    assert lines[0] == "### pagedbench compare: REGRESSION"
    assert lines[2] == ("**Gate failed: 1 regression, the worst in tpot_p50_ms, 20 % worse, beyond 5 %.**")
    assert lines[6].startswith("| tpot_p50_ms | 10.0 | 12.0 | 1.2x | 1.184x to 1.216x | 4/4 | worse |")
    assert lines[8].startswith(
        "- Smallest change for the worse that would be caught in 9 of 10 tries: tpot"
    )
    assert lines[10] == "<details><summary>What the gate says</summary>"


def test_the_worst_of_several_places_is_first() -> None:
    lines = markdown(steady("old", 1.0), steady("new", 1.2), steady("newer", 1.4)).splitlines()
    assert lines[4].startswith("| where | metric |")
    assert [line.split("|")[1].strip() for line in lines[6:8]] == ["newer", "new"]
    assert any(line.startswith("- gate failed: tpot_p50_ms (newer): ") for line in lines)


def test_words_for_every_outcome() -> None:
    virtual = side("a", [make_run({}, device=VIRTUAL)])
    few = side("a", [make_run({}, device=VIRTUAL, completed=5)])
    small = side("b", [make_run({}, device=VIRTUAL, kv_slots=8000)])
    assert markdown(virtual, virtual).startswith("### pagedbench compare: PASSED\n\n**Gate passed: 1 of 1")
    assert markdown(few, few, gated=("ttft_p99_ms",)).startswith("### pagedbench compare: NOT JUDGED\n")
    assert markdown(virtual, virtual, gated=()).startswith("### pagedbench compare: COMPARED\n")
    refusal = markdown(virtual, small)
    assert refusal.startswith("### pagedbench compare: NOT COMPARABLE\n\na and b cannot be compared:\n")
    assert "- pool: 16,000 tokens \\| 8,000 tokens\n" in refusal


def test_names_cannot_break_a_table_or_become_html() -> None:
    text = markdown(steady("o|d", 1.0), steady("<b>new", 1.2), steady("c|", 1.2))
    assert "<b>" not in text
    assert "| &lt;b>new | tpot_p50_ms |" in text
    assert "| c\\| | tpot_p50_ms |" in text


def test_what_is_folded_has_empty_lines_around_it() -> None:
    lines = markdown(steady("old", 1.0), steady("new", 1.2)).splitlines()
    for index, line in enumerate(lines):
        if line.startswith("<details>"):
            assert lines[index + 1] == ""
        if line == "</details>":
            assert lines[index - 1] == ""
