"""The same requests in the process (`run`) and over HTTP (`serve` and `replay`), in turn, on one machine.

    python results/serving/in_process.py MODEL [--rounds 4] [--rate 0.8] [--number 14] [--dtype auto]

Further options are of the workload.

The server is started once and waits idly while `run` runs. Prints the medians over the rounds and every
round's time a token; and what the threads of the server took of the cores, a token. OMP_NUM_THREADS=1
leaves one of two cores to the event loop and the client.
"""

import argparse
import csv
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

SEEN = ("normalized_latency_mean_s", "ttft_mean_ms", "tpot_mean_ms")
PROGRAM = [sys.executable, "-m", "pagedbench"]
URL = "http://127.0.0.1:8041"


def serving(engine: list[str]) -> subprocess.Popen[bytes]:
    command = [*PROGRAM, "serve", *engine, "--port", URL.rsplit(":", 1)[1]]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while True:
        time.sleep(0.2)
        if server.poll() is not None:
            sys.exit("the server did not start")
        try:
            urllib.request.urlopen(f"{URL}/health")
            return server
        except OSError:
            continue


def cpu_ms(pid: int) -> dict[str, float]:
    """Milliseconds of CPU of every thread."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {task.name: int((task / "schedstat").read_text().split()[0]) / 1e6 for task in tasks}


def measured(command: list[str], folder: Path) -> tuple[list[float], int]:
    """The figures of a run, and its output tokens."""
    subprocess.run([*command, "--output", str(folder)], check=True, stdout=subprocess.DEVNULL)
    (row,) = csv.DictReader((folder / "summary.csv").open())
    num_tokens = sum(int(item["output_len"]) for item in csv.DictReader((folder / "requests.csv").open()))
    return [float(row[name]) for name in SEEN], num_tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--rate", default="0.8")
    parser.add_argument("--number", default="14")
    parser.add_argument("--dtype", default="auto")
    given, more = parser.parse_known_args()
    workload = ["--trace", "sharegpt", "--rate", given.rate, "--num-requests", given.number, "--seed", "1"]
    workload += ["--progress", "none", *more]
    engine = ["--model", given.model, "--device", "cpu", "--dtype", given.dtype]
    commands = {
        "run": [*PROGRAM, "run", *engine, *workload],
        "replay": [*PROGRAM, "replay", "--base-url", URL, *workload],
    }
    places, server = Path(tempfile.mkdtemp()), serving(engine)
    found: dict[str, list[list[float]]] = {name: [] for name in commands}
    before, num_tokens = cpu_ms(server.pid), 0
    try:
        for turn in range(given.rounds):
            for name in commands if turn % 2 == 0 else reversed(commands):
                figures, number = measured(commands[name], places / f"{turn}-{name}")
                found[name].append(figures)
                num_tokens += number if name == "replay" else 0
        event_loop = cpu_ms(server.pid)[str(server.pid)] - before[str(server.pid)]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    for name, rows in found.items():
        medians = [statistics.median(column) for column in zip(*rows, strict=True)]
        print(name, *(f"{metric} {value:.5g}" for metric, value in zip(SEEN, medians, strict=True)))
        print("   ms a token by round:", *(f"{row[-1]:.2f}" for row in rows))
    print(f"event loop: {1000 * event_loop / num_tokens:.0f} us of CPU a token;", os.cpu_count(), "cores")


if __name__ == "__main__":
    main()
