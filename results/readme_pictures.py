"""The README's two pictures, simulated: `python results/readme_pictures.py` (some minutes).

OPT-13B on an A100-40GB, ShareGPT's bundled lengths, 15 minutes of arrivals: latency over the request rate
of every system (readme/latency.svg), and the contents of the KV pool at 2 requests/s (readme/memory.svg).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

RATES = {
    "fastertransformer": "0.05,0.1,0.15,0.2,0.25,0.3,2",
    "orca-max": "0.1,0.25,0.4,0.5,0.6,0.7,0.8,2",
    "orca-pow2": "0.1,0.25,0.5,0.75,0.9,1,1.1,2",
    "orca-oracle": "0.1,0.25,0.5,0.75,1,1.1,1.2,1.3,1.4,2",
    "paged": "0.1,0.25,0.5,0.75,1,1.25,1.5,1.75,2,2.1,2.2,2.3,2.4,2.5,2.6,2.7",
}
"""System -> rates until its latency leaves the picture, and 2 requests/s for the memory."""

TARGET = Path(__file__).resolve().parent / "readme"


def pagedbench(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pagedbench", *map(str, arguments)], check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        runs = Path(name)
        for system, rates in RATES.items():
            pagedbench(
                "sweep", "--system", system, "--rate", rates, "--model", "opt-13b", "--device",
                "sim:a100-40gb", "--trace", "sharegpt", "--duration", "900", "--output", runs / system,
            )  # fmt: skip
        files = ("--format", "svg", "--output", TARGET, "--force")
        pagedbench("plot", runs, "--kind", "latency", *files)
        pagedbench("plot", *sorted(runs.glob("*/*_r2_s0")), "--kind", "memory", *files)


if __name__ == "__main__":
    main()
