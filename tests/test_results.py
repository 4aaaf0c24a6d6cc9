"""What is committed under results/ is what the commands make, and README shows it as it is."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pagedbench.runs.files import csv_text
from pagedbench.tools.paper.figure import Options
from pagedbench.tools.paper.figures import FIGURES
from pagedbench.tools.paper.scorecard import COLUMNS
from tools.paper.results import outcome_of, papers_lengths

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PAPER = ROOT / "results" / "paper"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("update_readme", ROOT / "results" / "update_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scorecard() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((PAPER / "scorecard.json").read_text())
    return rows


def test_readme_shows_the_committed_scorecard() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert script().updated(text, scorecard()) == text


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="lost the markers"):
        script().updated("# README\n", scorecard())


def test_every_figure_is_committed_with_its_claims() -> None:
    manifest = json.loads((PAPER / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert set(manifest["figures"]) == set(FIGURES)
    for name in FIGURES:
        for end in ("csv", "png", "svg"):
            assert (PAPER / f"{name}.{end}").stat().st_size > 0
    assert {row["figure"] for row in scorecard()} >= set(FIGURES)


def test_misses_have_a_cause() -> None:
    missed = [row for row in scorecard() if row["verdict"] == "missed"]
    assert [row for row in missed if not row["why"]] == []


def test_the_scorecards_agree() -> None:
    table = list(csv.DictReader(io.StringIO((PAPER / "scorecard.csv").read_text())))
    rows = scorecard()
    assert len(table) == len(rows)
    assert list(table[0]) == list(COLUMNS)
    assert [row["verdict"] for row in table] == [row["verdict"] for row in rows]
    assert f"of {len(rows)} claims hold." in (PAPER / "scorecard.md").read_text()


def test_a_figure_without_lengths_comes_out_again() -> None:
    outcome = outcome_of(FIGURES["fig19a"])
    assert csv_text(outcome.tables[""][0], outcome.tables[""]) == (PAPER / "fig19a.csv").read_text()


@pytest.mark.parametrize(("name", "num_claims"), [("fig2", 14), ("fig11", 4)])
def test_figures_of_the_papers_lengths_come_out_again(name: str, num_claims: int, test_data: Path) -> None:
    outcome = outcome_of(FIGURES[name], Options(papers_lengths(test_data)))
    assert [claim.holds for claim in outcome.claims] == [True] * num_claims
    assert csv_text(outcome.tables[""][0], outcome.tables[""]) == (PAPER / f"{name}.csv").read_text()
