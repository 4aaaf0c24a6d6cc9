"""Writes the README's tables about the scorecard and the size of the package, between its markers.

Usage: python results/update_readme.py [README] [SCORECARD]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pagedbench"

HEADLINES = (
    ("fig2", "orca-max", "KV cache that holds tokens in use, orca-max"),
    ("fig2", "paged", "KV cache that holds tokens in use, paged"),
    ("fig12a", "paged / orca-oracle", "sustained rate of OPT-13B on ShareGPT, paged over orca-oracle"),
    ("fig12a", "paged / orca-max", "the same, paged over orca-max"),
    ("fig12d", "paged / orca-oracle", "sustained rate of OPT-13B on Alpaca, paged over orca-oracle"),
    ("fig14f", "paged / orca-oracle", "the same with beams of width 6"),
    ("fig16b", "paged / orca-oracle", "translation with five shared examples, paged over orca-oracle"),
    ("fig17", "paged / orca-oracle", "chat bot, paged over orca-oracle"),
)
"""Figure, system, and in words the first claim about it."""

PARTS = {
    "control plane: `request` `engine` `clock` `systems` `scheduling/` `memory/`": (
        "request.py", "engine.py", "clock.py", "systems.py", "scheduling", "memory",
    ),
    "`runs/` and `show/`": ("runs", "show"),
    "`fleet/`, `loadgen/` and `remote/`": ("fleet", "loadgen", "remote"),
    "`cli/`": ("cli",),
    "all tools": ("tools",),
}  # fmt: skip
"""Files and folders of the package, by what they are; the spine is what is in none but the first."""

CONTROL_PLANE, *OTHERS = PARTS


def paper_text(rows: list[dict[str, Any]]) -> str:
    """The headlines of the scorecard as Markdown, and how many of all claims hold."""
    lines = ["| | paper | here | |", "|---|--:|--:|---|"]
    for figure, system, words in HEADLINES:
        row = next(row for row in rows if (row["figure"], row["system"]) == (figure, system))
        verdict = row["verdict"] if row["verdict"] == "holds" else f"**{row['verdict']}**"
        paper = row["paper"] if isinstance(row["paper"], str) else _figure(row["paper"], row["unit"])
        name = f"Fig. {figure.removeprefix('fig')}: {words}"
        lines.append(f"| {name} | {paper} | {_figure(row['ours'], row['unit'])} | {verdict} |")
    num_held = sum(row["verdict"] == "holds" for row in rows)
    return "\n".join([*lines, "", f"Of all {len(rows)} claims, {num_held} hold."])


def _figure(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}".replace(" x", "x")


def size_text() -> str:
    """The lines of the package's parts as Markdown, rounded to hundreds."""
    sizes = {part: num_lines(*names) for part, names in PARTS.items()}
    total = num_lines(".")
    spine = total - sum(sizes[part] for part in OTHERS)
    rows = {CONTROL_PLANE: sizes[CONTROL_PLANE], "the spine, with the control plane": spine}
    rows |= {part: sizes[part] for part in OTHERS} | {"the package": total}
    lines = [f"| {part} | {round(size, -2):,} |" for part, size in rows.items()]
    return "\n".join(["| part | lines |", "|---|--:|", *lines])


def num_lines(*names: str) -> int:
    """The lines of Python in files and folders of the package."""
    roots = [PACKAGE / name for name in names]
    files = [file for root in roots for file in (root.rglob("*.py") if root.is_dir() else [root])]
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def replaced(text: str, name: str, content: str) -> str:
    """README with a section made anew.

    Raises:
        ValueError: it has no markers.
    """
    begin, end = f"<!-- begin: {name} (results/update_readme.py) -->", f"<!-- end: {name} -->"
    before, has_begin, rest = text.partition(begin)
    _, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        raise ValueError(f"README has lost the markers of its section {name!r}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def updated(text: str, rows: list[dict[str, Any]]) -> str:
    """README with the scorecard's headlines made anew."""
    return replaced(text, "paper", paper_text(rows))


def main(arguments: list[str]) -> None:
    """Rewrite README in place."""
    readme = Path(arguments[0]) if arguments else ROOT / "README.md"
    scorecard = Path(arguments[1]) if len(arguments) > 1 else ROOT / "results" / "paper" / "scorecard.json"
    rows = json.loads(scorecard.read_text(encoding="utf-8"))
    text = updated(readme.read_text(encoding="utf-8"), rows)
    readme.write_text(replaced(text, "size", size_text()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
