"""Exit codes are those of the interface, and no other module has its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pagedbench
from pagedbench.runs import exit_codes

CODES = {
    "CRASHED": 1,
    "BAD_INPUT": 2,
    "REGRESSION": 3,
    "MISSED_SLO": 4,
    "INVALID": 5,
    "NOT_COMPARABLE": 6,
    "INTERRUPTED": 130,
}


def test_codes_are_fixed() -> None:
    assert {name: value for name, value in vars(exit_codes).items() if name.isupper()} == CODES


def test_they_stand_in_one_place() -> None:
    """A whole number under one of these names is an exit code; enums have words."""
    for path in Path(pagedbench.__file__).parent.rglob("*.py"):
        if path.name == "exit_codes.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign):
                names = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
                values = {item.value for item in ast.walk(node.value) if isinstance(item, ast.Constant)}
                assert not (names & set(CODES) and values & set(CODES.values())), f"{path.name}: {names}"
