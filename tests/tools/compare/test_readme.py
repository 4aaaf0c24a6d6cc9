"""What the README of the comparison says is what the code does."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import pagedbench.tools.compare
from pagedbench.metrics.statistics import GATED_ALPHA, detectable
from pagedbench.runs.numbers import MINIMUM_FOR_P99
from pagedbench.tools.compare.change_documents import changes_document
from pagedbench.tools.compare.comparison import compare_sides
from pagedbench.tools.compare.gate import Gate
from pagedbench.tools.compare.question import DEFAULT_METRICS
from pagedbench.tools.compare.verdicts import Basis
from tools.compare.runs import repeats, side

README = Path(pagedbench.tools.compare.__file__).with_name("README.md")
TEXT = README.read_text(encoding="utf-8") if README.is_file() else ""

pytestmark = pytest.mark.skipif(not TEXT, reason="not in a source tree")


def keys_of(document: Any) -> set[str]:
    if isinstance(document, dict):
        return set(document).union(*map(keys_of, document.values()))
    return set().union(*map(keys_of, document)) if isinstance(document, list) else set()


def test_every_field_of_the_json_is_described() -> None:
    sides = [
        side("a", repeats("tpot_p50_ms", (10, 11))),
        side("b", repeats("tpot_p50_ms", (12, 13), kernels="reference")),
        side("c", repeats("tpot_p50_ms", (12, 13), kv_slots=8000)),
    ]
    keys: set[str] = set()
    for candidates in (sides[1:2], sides[2:]):
        gate = Gate(("tpot_p50_ms",), 0.05)
        comparison = compare_sides(sides[0], candidates, threshold=0.05, gate=gate, metrics=())
        keys |= keys_of(json.loads(changes_document(comparison, "json")))
    fields = TEXT[TEXT.index("Fields of `comparison.json`") :]
    described = {match.removesuffix("[]") for match in re.findall(r"`([a-z_0-9]+(?:\[\])?)`", fields)}
    assert keys <= described
    for basis in Basis:
        assert f'"{basis.value}"' in fields


def test_the_table_of_repeats_is_computed() -> None:
    rows = re.findall(r"^\| (\d) % \| ([\d. %|]+) \|$", TEXT, flags=re.MULTILINE)
    assert [row[0] for row in rows] == ["1", "2", "4"]
    for deviation, cells in rows:
        seen = [detectable(int(deviation) / 100, count) for count in (3, 5, 10, 20)]
        assert cells == " | ".join(f"{100 * math.expm1(change):.1f} %" for change in seen)


def test_the_default_gate_and_its_price_are_described() -> None:
    assert set(re.findall(r"`([a-z_0-9]+)`", TEXT[TEXT.index("`default` stands for") :])) >= {
        *DEFAULT_METRICS
    }
    one, all_of_them = (
        [
            f"{100 * math.expm1(detectable(0.02, count, level=1 - GATED_ALPHA / metrics)):.1f} %"
            for count in (5, 10)
        ]
        for metrics in (1, len(DEFAULT_METRICS))
    )
    assert f"5 pairs show a change of {one[0]} with one gated metric and of {all_of_them[0]}" in TEXT
    assert f"10 pairs show {one[1]} and {all_of_them[1]}" in TEXT


def test_the_limit_of_p99_is_the_gates() -> None:
    assert f"a p99 of fewer than {MINIMUM_FOR_P99} requests" in TEXT
