"""Compares a server at several rates with its twin: measured, predicted, and whether the interval holds.

    python results/serving/twin_check.py URL TWIN RATE[,RATE...] NUMBER [the server's options of run]

Each rate is replayed against the server (`pagedbench replay`) and then simulated (`pagedbench run`) with
the same requests; the folders stay in a temporary place, and a table is printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

METRICS = (
    "ttft_mean_ms",
    "ttft_p99_ms",
    "tpot_mean_ms",
    "itl_p99_ms",
    "e2el_mean_s",
    "normalized_latency_mean_s",
    "request_throughput",
    "output_throughput",
)
OF_REQUESTS = ["--trace", "sharegpt", "--seed", "7", "--progress", "none"]
SENDING = ["--api", "vllm"]


def pagedbench(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pagedbench", *words], check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"pagedbench {' '.join(words)}: {done.stderr.strip()}")


def values_of(folder: Path) -> tuple[dict[str, float], dict[str, list[float]]]:
    document = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    values = {
        name: entry["value"]
        for topic in document.values()
        if isinstance(topic, dict)
        for name, entry in topic.items()
        if isinstance(entry, dict) and "value" in entry
    }
    return values, document.get("prediction", {}).get("intervals", {})


def main() -> None:
    url, twin, rates, num_requests, *server = sys.argv[1:]
    model = json.loads(Path(twin).read_text(encoding="utf-8"))["model"]
    places = Path(tempfile.mkdtemp())
    num_inside = num_close = number = 0
    print(
        "| rate | metric | measured | predicted | error | interval | holds |\n|--:|---|--:|--:|--:|--:|---|"
    )
    commands = {}
    for rate in rates.split(","):
        workload = ["--rate", rate, "--num-requests", num_requests, *OF_REQUESTS, "--model", model]
        real, simulated = places / f"real-{rate}", places / f"simulated-{rate}"
        pagedbench("replay", "--base-url", url, *SENDING, *workload, "--output", str(real))
        commands[rate] = ["--device", f"sim:{twin}", *workload, *server, "--output", str(simulated)]
    print(f"the server has been measured: {places}", file=sys.stderr, flush=True)
    for rate, words in commands.items():
        real, simulated = places / f"real-{rate}", places / f"simulated-{rate}"
        pagedbench("run", *words)
        measured, (predicted, intervals) = values_of(real)[0], values_of(simulated)
        for name in METRICS:
            if measured.get(name) is None or name not in intervals:
                continue
            (low, high), found, said = intervals[name], measured[name], predicted[name]
            error, is_inside = said / found - 1, low <= found <= high
            number, num_inside, num_close = (
                number + 1,
                num_inside + is_inside,
                num_close + (abs(error) <= 0.1),
            )
            print(
                f"| {rate} | `{name}` | {found:.4g} | {said:.4g} | {error:+.1%} "
                f"| {low:.4g} to {high:.4g} | "
                f"{'yes' if is_inside else 'no'} |",
                flush=True,
            )
    print(
        f"\n{num_inside} of {number} inside their intervals, {num_close} within 10 %; folders in {places}"
    )


if __name__ == "__main__":
    main()
