"""The same requests in the process (`run`) and over HTTP (`serve` and `replay`), in turn; and where time goes.

    python results/serving/in_process.py MODEL [--order run,serve,serve,run] [--rate 0.8] [--number 40]

`serve` runs with --output, so that its iterations are known as well as those of `run`: of each run the table
has what the client saw, the mean of an iteration (by the number of running requests below it) and of the time
between two of them, and from the server's /metrics how long tokens took from the engine to the event loop.
"""

import argparse
import csv
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from pathlib import Path

SEEN = ("normalized_latency_mean_s", "ttft_mean_ms", "tpot_mean_ms", "output_throughput")
PROGRAM = [sys.executable, "-m", "pagedbench"]
PORT = 8041


def in_process(model: str, workload: list[str], folder: Path) -> tuple[Path, float]:
    command = [*PROGRAM, "run", "--model", model, "--device", "cpu", *workload, "--output", str(folder)]
    subprocess.run([*command, "--progress", "none"], check=True, stdout=subprocess.DEVNULL)
    return folder, 0.0


def over_http(model: str, workload: list[str], folder: Path) -> tuple[Path, float]:
    """The run folder of the client, and the mean delivery in milliseconds; the server's is beside it."""
    command = [*PROGRAM, "serve", "--model", model, "--device", "cpu", "--port", str(PORT)]
    server = subprocess.Popen([*command, "--output", str(folder / "server")], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{PORT}"
    while _text(f"{url}/health") is None:
        time.sleep(0.2)
        if server.poll() is not None:
            sys.exit("the server did not start")
    command = [*PROGRAM, "replay", "--base-url", url, *workload, "--output", str(folder / "client")]
    subprocess.run([*command, "--progress", "none"], check=True, stdout=subprocess.DEVNULL)
    lines = (_text(f"{url}/metrics") or "").splitlines()
    figures = {
        line.rsplit(" ", 1)[0].split("{")[0]: line.rsplit(" ", 1)[1] for line in lines if line[0] != "#"
    }
    total, count = (float(figures[f"pagedbench:delivery_seconds_{what}"]) for what in ("sum", "count"))
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0
    return folder, 1000 * total / count


def _text(url: str) -> str | None:
    try:
        return urllib.request.urlopen(url, timeout=10).read().decode()
    except OSError:
        return None


def iterations(folder: Path) -> tuple[dict[int, float], float]:
    """Mean milliseconds of iterations without prompts by running requests, and between two of them."""
    rows = list(csv.DictReader((folder / "steps.csv").open()))
    times, gaps = defaultdict(list), []
    for row, after in zip(rows, rows[1:], strict=False):
        if int(row["prefill_tokens"]) == 0:
            times[int(row["running"])].append(float(row["step_ms"]))
        gap = 1000 * (float(after["t_s"]) - float(row["t_s"])) - float(row["step_ms"])
        if int(after["running"]) > int(after["prefill_tokens"] != "0"):
            gaps.append(gap)
    return {running: statistics.fmean(found) for running, found in sorted(times.items())}, statistics.fmean(
        gaps
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--order", default="run,serve,serve,run")
    parser.add_argument("--rate", default="0.8")
    parser.add_argument("--number", default="40")
    parser.add_argument("--more", default="", help="options of the workload")
    given = parser.parse_args()
    workload = ["--trace", "sharegpt", "--rate", given.rate, "--num-requests", given.number, "--seed", "1"]
    workload += given.more.split()
    places = Path(tempfile.mkdtemp())
    for turn, kind in enumerate(given.order.split(",")):
        make = {"run": in_process, "serve": over_http}[kind]
        folder, delivery = make(given.model, workload, places / f"{turn}-{kind}")
        client, engine = (folder, folder) if kind == "run" else (folder / "client", folder / "server")
        (row,) = csv.DictReader((client / "summary.csv").open())
        manifest = json.loads((client / "manifest.json").read_text())
        steps, gap = iterations(engine)
        print(kind, *(f"{name}={float(row[name]):.5g}" for name in SEEN), f"valid={row['valid']}")
        print("   ms an iteration:", *(f"{number}:{mean:.2f}" for number, mean in list(steps.items())[:10]))
        print(f"   between: {gap:.3f} ms, delivery: {delivery:.3f} ms", manifest.get("load") or "")
    print(places)


if __name__ == "__main__":
    main()
