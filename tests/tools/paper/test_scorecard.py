"""The scorecard in every form."""

from __future__ import annotations

import csv
import io
import json

from pagedbench.tools.paper.claim import Between, Claim, Near, Tolerance
from pagedbench.tools.paper.scorecard import COLUMNS, scorecard_document, scorecard_rows

RATE = "sustained rate"
CLAIMS = [
    Claim("fig2", "paged", "token states", "%", Near(96.3, Tolerance(0.5)), 96.31, "unused"),
    Claim("fig12c", "paged / orca-oracle", RATE, "x", Between(1.7, 2.7), 1.41, "too fast", (1.4, 1.43)),
    Claim("fig12c", "paged / fastertransformer", RATE, "x", Between(1.0, None), float("inf")),
]


def test_rows_say_why_only_where_it_is_missed() -> None:
    rows = scorecard_rows(CLAIMS)
    assert [row["verdict"] for row in rows] == ["holds", "missed", "holds"]
    assert [row["why"] for row in rows] == ["", "too fast", ""]
    assert [row["paper"] for row in rows] == [96.3, "1.7 to 2.7", "at least 1"]
    assert [row["low"] for row in rows] == [None, 1.4, None]
    assert rows[2]["ours"] is None  # endless is no number


def test_json_and_csv_are_the_rows() -> None:
    assert json.loads(scorecard_document(CLAIMS, "json")) == scorecard_rows(CLAIMS)
    table = list(csv.DictReader(io.StringIO(scorecard_document(CLAIMS, "csv"))))
    assert list(table[0]) == list(COLUMNS)
    assert [row["ours"] for row in table] == ["96.31", "1.41", ""]


def test_markdown_has_a_line_a_claim_and_the_sum() -> None:
    text = scorecard_document(CLAIMS, "md")
    assert "| fig2 | paged: token states | 96.30 % | 96.31 % | ±0.5 | holds |  |" in text
    assert "**missed** | too fast |" in text
    assert text.rstrip().endswith("2 of 3 claims hold.")
