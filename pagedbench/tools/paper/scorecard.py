"""The scorecard: claim, paper, ours, verdict, why; as rows, CSV, JSON, Markdown, and a table."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from pagedbench.runs.files import csv_text
from pagedbench.runs.numbers import number
from pagedbench.show.table import Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagedbench.tools.paper.claim import Claim

SCHEMA_VERSION = 1

Row = dict[str, object]

COLUMNS = (
    "figure",
    "system",
    "quantity",
    "unit",
    "paper",
    "ours",
    "low",
    "high",
    "tolerance",
    "verdict",
    "why",
)
"""`system`: what the claim is about; `low`, `high`: the range if there were several seeds."""


def scorecard_rows(claims: Sequence[Claim]) -> list[Row]:
    """One row per claim."""
    return [
        {
            "figure": claim.figure,
            "system": claim.subject,
            "quantity": claim.quantity,
            "unit": claim.unit,
            "paper": claim.expected.paper,
            "ours": _rounded(claim.ours),
            "low": None if claim.spread is None else _rounded(claim.spread[0]),
            "high": None if claim.spread is None else _rounded(claim.spread[1]),
            "tolerance": claim.expected.allowed,
            "verdict": claim.verdict,
            "why": "" if claim.holds else claim.why,
        }
        for claim in claims
    ]


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def scorecard_document(claims: Sequence[Claim], kind: str) -> str:
    """`kind`: "json", "csv" or "md"."""
    rows = scorecard_rows(claims)
    if kind == "json":
        return json.dumps(rows, indent=2) + "\n"
    if kind == "csv":
        return csv_text(COLUMNS, rows)
    return markdown_table(claims)


def markdown_table(claims: Sequence[Claim]) -> str:
    """The scorecard with a summary below."""
    lines = ["| figure | claim | paper | ours | allowed | verdict | why |", "|---|---|--:|--:|--:|---|---|"]
    for claim in claims:
        verdict = claim.verdict if claim.holds else f"**{claim.verdict}**"
        why = "" if claim.holds else claim.why
        what = f"{claim.subject}: {claim.quantity}"
        cells = (claim.figure, what, _paper(claim), _ours(claim), claim.expected.allowed, verdict, why)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", summary(claims), ""])


def summary(claims: Sequence[Claim]) -> str:
    """How many hold."""
    return f"{sum(claim.holds for claim in claims)} of {len(claims)} claims hold."


def claims_table(claims: Sequence[Claim]) -> Table:
    """The claims for a terminal."""
    columns = (
        Column("claim", is_key=True, is_text=True),
        Column("quantity", is_key=True, is_text=True, wraps=True),
        *map(Column, ("paper", "ours", "allowed")),
        Column("verdict", is_text=True),
    )
    rows = []
    for claim in claims:
        verdict = Cell(claim.verdict, style="green" if claim.holds else "red")
        numbers = (_paper(claim), _ours(claim), claim.expected.allowed)
        rows.append([claim.subject, claim.quantity, *numbers, verdict])
    return Table(columns, rows)


def _paper(claim: Claim) -> str:
    paper = claim.expected.paper
    return paper if isinstance(paper, str) else _with_unit(paper, claim.unit)


def _ours(claim: Claim) -> str:
    own = _with_unit(claim.ours, claim.unit)
    if claim.spread is None:
        return own
    return f"{own} ({claim.spread[0]:.3g} to {claim.spread[1]:.3g})"


def _with_unit(value: float, unit: str) -> str:
    shown = f"{value:.2f}" if abs(value) < 1000 else number(value)
    return f"{shown} {unit}" if unit in ("%", "x", "ms") else shown
