"""How exactly load generators send and time, with a server of known delays: the table of generator.md.

`python results/serving/generator_clients.py pagedbench vllm guidellm --rates 100,1000` prints CSV. The
other tools are in separate environments, given by the variables VLLM_PYTHON and GUIDELLM; TOKENIZER is a
folder with any tokenizer for them. All send at equal distances, so that the server can measure how late a
request arrives: its delay relative to its place in the series, minus that of the earliest one.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np

from pagedbench.loadgen.generate import generate
from pagedbench.loadgen.known_delays import MODEL, Delays, known_delays
from pagedbench.loadgen.target import Target, reach
from pagedbench.loadgen.wire import Call, Exchange

DELAYS = Delays(ttft=0.01, gap=0.003, num_tokens=6)
TIMEOUT = 80
FIELDS = (
    "tool", "rate", "requests", "whole", "rate_at_server", "late_p50_ms", "late_p99_ms", "late_max_ms",
    "ttft_reported_p50_ms", "ttft_reported_p99_ms", "ttft_error_p50_ms", "ttft_error_p99_ms",
    "server_ttft_p50_ms", "server_ttft_p99_ms",
)  # fmt: skip

VLLM_BENCH = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""`vllm bench serve`, as a script: the command itself does not find the version of the package for CPUs."""


def pagedbench(port: int, rate: float, number: int, folder: Path) -> list[float]:
    """TTFTs of our generator, counted from the schedule, in seconds; one worker."""
    body = json.dumps({"model": MODEL, "prompt": "a b c", "max_tokens": 6, "stream": True})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    calls = [Call(index, index / rate, (head + body).encode()) for index in range(number)]
    found: list[Exchange] = []
    generate(calls, reach(Target("127.0.0.1", port)), on_exchange=found.append, timeout=10.0)
    return [item.pieces[0][0] - item.scheduled for item in found if item.failure is None]


def vllm(port: int, rate: float, number: int, folder: Path) -> list[float]:
    """TTFTs that `vllm bench serve` reports."""
    command = [
        os.environ["VLLM_PYTHON"], "-c", VLLM_BENCH, "--backend", "openai", "--endpoint", "/v1/completions",
        "--base-url", f"http://127.0.0.1:{port}", "--model", MODEL, "--tokenizer", os.environ["TOKENIZER"],
        "--dataset-name", "random", "--random-input-len", "8", "--random-output-len", "6", "--ignore-eos",
        "--num-prompts", str(number), "--request-rate", str(rate), "--burstiness", "1e9", "--disable-tqdm",
        "--save-result", "--save-detailed", "--result-filename", str(folder / "vllm.json"),
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=sys.stderr, timeout=TIMEOUT)
    result = json.loads((folder / "vllm.json").read_text())
    return [time for time, error in zip(result["ttfts"], result["errors"], strict=True) if not error]


def guidellm(port: int, rate: float, number: int, folder: Path) -> list[float]:
    """TTFTs that GuideLLM reports."""
    backend = {"kind": "openai_http", "target": f"http://127.0.0.1:{port}", "model": MODEL,
               "request_format": "/v1/completions"}  # fmt: skip
    options = {
        "--backend": backend,
        "--profile": {"kind": "constant", "rate": rate},
        "--constraint": {"kind": "max_requests", "count": number},
        "--tokenizer": {"kind": "huggingface_auto", "model": os.environ["TOKENIZER"]},
        "--data": {"kind": "synthetic_text", "prompt_tokens": 8, "output_tokens": 6},
        "--output": {"kind": "json", "path": str(folder / "guidellm.json")},
    }
    words = [word for name, value in options.items() for word in (name, json.dumps(value))]
    command = [os.environ["GUIDELLM"], "run", *words, "--disable-console"]
    subprocess.run(command, check=True, stdout=sys.stderr, timeout=TIMEOUT)
    (benchmark,) = json.loads((folder / "guidellm.json").read_text())["benchmarks"]
    return [item["time_to_first_token_ms"] / 1000 for item in benchmark["requests"]["successful"]]


TOOLS = {"pagedbench": pagedbench, "vllm": vllm, "guidellm": guidellm}


def measure(tool: str, rate: float, number: int) -> dict[str, object]:
    """One run of a tool: its report, and what the server saw."""
    with known_delays(DELAYS) as port, tempfile.TemporaryDirectory() as folder:
        reported = 1000 * np.array(TOOLS[tool](port, rate, number, Path(folder)))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/times") as answer:
            times = np.array(json.load(answer)["times"][-number:])  # earlier ones only look for the server
    arrived = np.sort(times[:, 0])
    late = 1000 * (arrived - np.arange(len(arrived)) / rate)
    late -= late.min()
    server = 1000 * (times[:, 1] - times[:, 0])
    p50, p99 = (lambda values: np.percentile(values, 50)), (lambda values: np.percentile(values, 99))
    return dict(
        zip(
            FIELDS,
            (
                tool, rate, number, len(reported), (len(arrived) - 1) / (arrived[-1] - arrived[0]),
                p50(late), p99(late), late.max(), p50(reported), p99(reported),
                p50(reported) - p50(server), p99(reported) - p99(server), p50(server), p99(server),
            ),
            strict=True,
        )
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tools", nargs="+", choices=TOOLS)
    parser.add_argument("--rates", default="100,300,1000,3000")
    parser.add_argument("--duration", type=float, default=10.0)
    given = parser.parse_args()
    writer = csv.DictWriter(sys.stdout, FIELDS, lineterminator="\n")
    writer.writeheader()
    for rate in map(float, given.rates.split(",")):
        for tool in given.tools:
            row = measure(tool, rate, round(rate * given.duration))
            writer.writerow({name: f"{value:.4g}" if isinstance(value, float) else value
                             for name, value in row.items()})  # fmt: skip
            sys.stdout.flush()


if __name__ == "__main__":
    main()
