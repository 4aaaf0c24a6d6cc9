"""Writes the table of the paper's claims into README.md, between its markers.

Usage: python results/update_readme.py [README] [SCORECARD]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BEGIN = "<!-- begin of the table that results/update_readme.py makes of results/paper/scorecard.json -->"
END = "<!-- end of the table -->"

HEADLINES = ("token states", "sustained rate")
"""Quantities of which README shows the claims; the scorecard has all."""

NAMES = {
    "fig12a": "Fig. 12a, OPT-13B, ShareGPT",
    "fig12b": "Fig. 12b, OPT-66B, ShareGPT",
    "fig12c": "Fig. 12c, OPT-175B, ShareGPT",
    "fig12d": "Fig. 12d, OPT-13B, Alpaca",
    "fig12e": "Fig. 12e, OPT-66B, Alpaca",
    "fig12f": "Fig. 12f, OPT-175B, Alpaca",
    "fig14c": "Fig. 14c, 6 samples",
    "fig14f": "Fig. 14f, beam width 6",
    "fig16a": "Fig. 16a, one example shared",
    "fig16b": "Fig. 16b, five examples shared",
    "fig17": "Fig. 17, chat bot",
    "fig12": "Fig. 12, all panels",
}


def table(rows: list[dict[str, Any]]) -> str:
    """The headlines as Markdown, and how many of all claims hold."""
    shown = [row for row in rows if row["quantity"].startswith(HEADLINES)]
    lines = ["| | claim | paper | here | verdict |", "|---|---|--:|--:|---|"]
    for row in shown:
        name = NAMES.get(row["figure"], f"Fig. {row['figure'].removeprefix('fig')}")
        claim = f"{row['system']}: {row['quantity']}"
        verdict = row["verdict"] if row["verdict"] == "holds" else f"**{row['verdict']}**"
        lines.append(f"| {name} | {claim} | {_paper(row)} | {_ours(row)} | {verdict} |")
    num_held = sum(row["verdict"] == "holds" for row in rows)
    lines += ["", f"Of all {len(rows)} claims of the scorecard, {num_held} hold."]
    return "\n".join(lines)


def _paper(row: dict[str, Any]) -> str:
    paper = row["paper"]
    return paper if isinstance(paper, str) else f"{paper:g}{_unit(row)}"


def _ours(row: dict[str, Any]) -> str:
    ours = "endless" if row["ours"] is None else f"{row['ours']:.3g}{_unit(row)}"
    return ours if row["low"] is None else f"{ours} ({row['low']:.3g} to {row['high']:.3g})"


def _unit(row: dict[str, Any]) -> str:
    return {"%": " %", "x": " x"}.get(row["unit"], "")


def updated(text: str, rows: list[dict[str, Any]]) -> str:
    """README with the table made anew.

    Raises:
        ValueError: it has no markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("README has lost the markers of its table")
    return f"{before}{BEGIN}\n{table(rows)}\n{END}{after}"


def main(arguments: list[str]) -> None:
    """Rewrite README in place."""
    readme, scorecard = (
        Path(arguments[0]) if arguments else HERE.parent / "README.md",
        Path(arguments[1]) if len(arguments) > 1 else HERE / "paper" / "scorecard.json",
    )
    rows = json.loads(scorecard.read_text(encoding="utf-8"))
    readme.write_text(updated(readme.read_text(encoding="utf-8"), rows), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
