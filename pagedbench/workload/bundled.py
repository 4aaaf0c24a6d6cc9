"""The folder of the bundled lengths: in the package when installed, next to it in a source checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.workload.rows import TraceError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


TABLES = {
    "sharegpt": "sharegpt_opt_2048",
    "alpaca": "alpaca",
    "sharegpt-8k": "sharegpt_8k_multiturn",
}
"""The table in `traces/distributions.json` of each trace."""

SETS = (*TABLES, "synthetic")
"""Traces whose lengths can be synthesized."""

TRAFFIC_FILES = {
    "bursty": "bursty.csv",
    "agentic": "agentic.jsonl.gz",
    "prefix-tree": "prefix-tree.jsonl.gz",
}
"""Synthesized traces with times, sessions or shared prefixes, and their files."""

NAMES = (*SETS, *TRAFFIC_FILES)
"""All bundled traces."""


def traces_folder() -> Traversable:
    """The folder of the bundled traces.

    Raises:
        TraceError: it is missing.
    """
    checkout = Path(__file__).resolve().parents[2]
    for folder in (files("pagedbench").joinpath("traces"), checkout / "traces"):
        if folder.joinpath("distributions.json").is_file():
            return folder
    raise TraceError(f"the bundled traces are missing in {checkout}: install pagedbench again")
