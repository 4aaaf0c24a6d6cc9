"""How do old reports affect a router by KV use? Simulates fleets over seeds, and prints a Markdown table.

    python results/staleness.py [SEEDS]

Llama-3.1-8B on 16 H100, short prompts and replies (`synthetic`), 5 s of arrivals at two rates. Intervals
have 95 %, by Student's t over the seeds' logarithms of the change: a seed always has the same arrivals.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from math import exp, log
from pathlib import Path
from statistics import mean, stdev

from scipy.stats import t as students

PAGEDBENCH = str(Path(sys.executable).with_name("pagedbench"))
FLEET = ("--model", "llama-3.1-8b", "--device", "sim:h100", "--trace", "synthetic", "--replicas", "16",
         "--router", "kv-use", "--duration", "5", "--progress", "none", "--format", "csv")  # fmt: skip
RATES = ("100", "400")
STALENESS = ("0", "0.005", "0.02", "0.1", "0.5")


def fleets(rate: str, seeds: int) -> list[dict[str, str]]:
    """One row per fleet and seed."""
    with tempfile.TemporaryDirectory() as folder:
        words = ("--rate", rate, "--staleness", ",".join(STALENESS), "--seeds", str(seeds))
        output = ("--output", f"{folder}/plan")
        subprocess.run([PAGEDBENCH, "plan", *FLEET, *words, *output], check=True, capture_output=True)
        return list(csv.DictReader((Path(folder) / "plan" / "fleets.csv").read_text().splitlines()))


def change(values: list[float], base: list[float]) -> str:
    """The change in percent, and its interval."""
    logs = [log(value / other) for value, other in zip(values, base, strict=True)]
    middle, width = mean(logs), 0.0
    if len(logs) > 1:
        width = float(students.ppf(0.975, len(logs) - 1)) * stdev(logs) / len(logs) ** 0.5
    low, centre, high = (100 * (exp(x) - 1) for x in (middle - width, middle, middle + width))
    return f"{centre:+.0f} % ({low:+.0f} to {high:+.0f})"


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    print("| requests/s | staleness | TTFT p50 ms | p99 ms | change of p99 |")
    print("|--:|--:|--:|--:|--:|")
    for rate in RATES:
        rows = fleets(rate, seeds)
        base: list[float] = []
        for staleness in STALENESS:
            own = [row for row in rows if float(row["staleness_s"]) == float(staleness)]
            p50, p99 = ([float(row[name]) for row in own] for name in ("ttft_p50_ms", "ttft_p99_ms"))
            base = base or p99
            shown = change(p99, base) if p99 is not base else ""
            print(
                f"| {rate} | {1000 * float(staleness):g} ms | {mean(p50):.1f} | {mean(p99):.0f} | {shown} |"
            )


if __name__ == "__main__":
    main()
