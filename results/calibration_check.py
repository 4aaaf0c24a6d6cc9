"""Compares real runs with simulated ones: the errors of a calibrated profile. See `calibration.md`.

    python results/calibration_check.py REAL... --simulated SIMULATED...

Each argument is a folder of runs, as written by `pagedbench sweep` or `run --output`. Runs are paired by
system, rate, seed and pool; several real runs of one kind are repeats, and their range is shown.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import counted, number
from pagedbench.runs.saved import load_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pagedbench.runs.saved import SavedRun

METRICS = {
    "normalized_latency_mean_s": "mean s/token",
    "request_throughput": "req/s",
    "output_throughput": "output tok/s",
    "tpot_p50_ms": "TPOT p50 ms",
}
KV_PARTS = ("token_states", "reserved", "internal", "external", "free")

Key = tuple[str, float, int, int]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description="How far a calibrated profile is off.")
    parser.add_argument("real", nargs="+", type=Path)
    parser.add_argument("--simulated", nargs="+", type=Path, required=True)
    given = parser.parse_args()
    real, simulated = runs_of(given.real), runs_of(given.simulated)
    print("| system, rate, pool | figure | real | simulated | error | real runs differ by |")
    print("|---|---|--:|--:|--:|--:|")
    for key in sorted(real.keys() & simulated.keys()):
        print_rows(key, real[key], simulated[key])


def runs_of(folders: Iterable[Path]) -> dict[Key, list[SavedRun]]:
    """The runs in and under the folders, by what they must agree in."""
    found = defaultdict(list)
    for folder in folders:
        for manifest in sorted(folder.rglob("manifest.json")):
            run = load_run(manifest.parent)
            rate = float(run.config["rate"])
            key = (run.system, rate, run.config["seed"], run.manifest["plan"]["kv_slots"])
            found[key].append(run)
    return found


def print_rows(key: Key, real: list[SavedRun], simulated: list[SavedRun]) -> None:
    """Print one row per figure, and one for the pool: the largest difference of any part, in points."""
    system, rate, _, kv_slots = key
    label = f"{system}, {rate:g} req/s, {kv_slots:,} slots, {counted(len(real), 'run')}"
    for name, title in METRICS.items():
        values = [float(run.values[name]) for run in real]
        own = mean(simulated, name)
        middle = sum(values) / len(values)
        spread = f"{max(values) / min(values) - 1:.1%}" if len(values) > 1 else ""
        print(
            f"| {label} | {title} | {number(middle)} | {number(own)} | {own / middle - 1:+.1%} | {spread} |"
        )
    points = max(abs(mean(real, f"kv_{part}_pct") - mean(simulated, f"kv_{part}_pct")) for part in KV_PARTS)
    print(f"| {label} | KV parts | | | {points:.2f} points | |")


def mean(runs: list[SavedRun], name: str) -> float:
    """The mean over runs of one kind."""
    return sum(float(run.values[name]) for run in runs) / len(runs)


if __name__ == "__main__":
    main()
