"""Twins of simulated servers with known costs: the errors of predictions, and how often intervals hold.

    PYTHONPATH=tests python results/serving/twin_coverage.py 0 20 FILE.csv    # servers 0 to 19

Every server has random costs, noise in single iterations, a speed that changes from run to run, and a
client that sees tokens late. It is calibrated like `calibrate --base-url`, and then runs ShareGPT's
requests at half, full and double the rate that it sustains; each is one case.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from pagedbench.backend import SimulatedBackend
from pagedbench.config import RunConfig
from pagedbench.metrics.formulas import summarize
from pagedbench.plan import make_plan, plan_on
from pagedbench.remote.records import record_of
from pagedbench.runs.prediction import as_client, predict
from pagedbench.runs.runner import serve
from pagedbench.runs.traces import trace_of
from pagedbench.simulation.fitted_costs import FittedCosts
from pagedbench.tools.calibrate.twin.measure import Measurement
from pagedbench.tools.calibrate.twin.server import ServerCosts, limits_of
from pagedbench.workload.dataset import load_dataset
from tools.calibrate.twin.simulated_server import SimulatedServer

LOADS = {"half": 0.5, "full": 1.0, "double": 2.0}
METRICS = (
    "ttft_mean_ms",
    "ttft_p99_ms",
    "tpot_mean_ms",
    "itl_p99_ms",
    "e2el_mean_s",
    "normalized_latency_mean_s",
    "request_throughput",
)
NUM_REQUESTS = 80
DURATION = 150.0


def random_costs(random: np.random.Generator) -> FittedCosts:
    """A server between a small model on a CPU and a large one on a card."""
    step = 10 ** random.uniform(-2.3, -1.5)  # 5 to 30 ms a token alone
    per_token = step * 10 ** random.uniform(-2.0, -1.2)  # 1 to 6 % of it, of a prompt's token
    bend = int(random.choice([8, 32, 128]))
    return FittedCosts(
        step=0.1 * step,
        layers={1: 0.9 * step, bend: (0.9 + random.uniform(0, 0.4)) * step, 2048: step + 2048 * per_token},
        head={1: 0.0, 64: random.uniform(0, 0.3) * step},
        sequence=random.uniform(0, 0.01) * step,
        prompt=random.uniform(0, 0.1) * step,
        context={"paged": step * 10 ** random.uniform(-4.5, -3.5), "contiguous": 1e-6},
        pair=per_token * 10 ** random.uniform(-4, -3),
        copy=0.0,
        swap=0.0,
        move=0.0,
    )


def server_of(number: int) -> SimulatedServer:
    random = np.random.default_rng(number)
    prefill = "chunked" if number % 3 == 2 else "mixed"
    config = RunConfig(
        device="sim:h100",
        model="opt-125m",
        kv_slots=int(random.choice([8192, 15696, 40000])),
        prefill=prefill,
        max_num_seqs=int(random.choice([16, 64, 256])),
        max_num_batched_tokens=2560,
        watermark=0.0 if prefill == "chunked" else 0.01,
    )
    plan = make_plan(config)
    plan = replace(plan, step_times=random_costs(random).costs("paged", ""))
    return SimulatedServer(
        plan,
        noise=random.uniform(0.02, 0.15),
        drift=random.uniform(0.0, 0.03),
        delay=random.uniform(0.0005, 0.004),
        jitter=random.uniform(1e-4, 4e-4),
        merged=random.choice([0.0, 0.01]),
        seed=number,
    )


def cases(number: int) -> list[dict[str, object]]:
    server = server_of(number)
    config = replace(
        server.plan.config,
        device="sim:twin.json",
        dtype="float16",
        seed=number,
        cost_model="auto",
        tensor_parallel_size=None,
    )
    costs = ServerCosts("a simulated server", "2026-11-27", config, server.plan.shape)
    measurement = Measurement(
        server.send, limits_of(config, server.plan), config, costs.profile, DURATION, lambda _: None
    )
    measured = measurement.run()
    plan = plan_on(measured.profile, config, Path("twin.json"))
    plan = replace(plan, config=replace(plan.config, trace="sharegpt", seed=1000 + number))
    dataset = load_dataset("sharegpt")

    def trace_at(rate, count=NUM_REQUESTS):
        own = replace(plan.config, rate=rate, num_requests=count, duration=None)
        return trace_of(replace(plan, config=own), dataset)

    def run(trace):
        engine = SimulatedBackend().make_engine(plan, requests=trace.requests)
        return as_client(lambda source: serve(engine, source), trace, plan.twin.delay)

    sustained = summarize(run(trace_at(float("inf"))))["request_throughput"]
    rows = []
    for load, share in LOADS.items():
        trace = trace_at(share * sustained)
        record = run(trace)
        expected, prediction = summarize(record), predict(plan, trace, record)
        observations = server.send(trace)
        found = summarize(
            record_of(
                trace.requests,
                observations,
                np.zeros(len(observations)),
                forces_lengths=True,
                certified_rate=None,
                was_stopped=False,
            )
        )
        for name in METRICS:
            if found[name] is None:
                continue
            low, high = prediction.intervals[name]
            rows.append({
                "server": number, "load": load, "metric": name,
                "measured": found[name], "predicted": expected[name],
                "low": low, "high": high, "error": expected[name] / found[name] - 1,
                "is_inside": int(low <= found[name] <= high),
                "outside": max([item.share for item in prediction.outside], default=0.0),
                "drift": measured.fit.drift, "cut": int(measured.was_cut),
            })  # fmt: skip
    return rows


def main() -> None:
    first, last = int(sys.argv[1]), int(sys.argv[2])
    path = Path(sys.argv[3])
    for number in range(first, last):
        rows = cases(number)
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            if is_new:
                writer.writeheader()
            writer.writerows(rows)
    show(path)


def show(path: Path) -> None:
    """A row a load and metric."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    print(f"{len({row['server'] for row in rows})} servers\n")
    print("| load | metric | median error | 90 % of errors below | within 10 % | inside | width |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for load in LOADS:
        for name in METRICS:
            own = [row for row in rows if row["load"] == load and row["metric"] == name]
            if not own:
                continue
            errors = np.abs([float(row["error"]) for row in own])
            inside = np.mean([int(row["is_inside"]) for row in own])
            width = np.median(
                [(float(row["high"]) - float(row["low"])) / float(row["measured"]) for row in own]
            )
            print(
                f"| {load} | `{name}` | {np.median(errors):.1%} | {np.quantile(errors, 0.9):.1%} | "
                f"{np.mean(errors <= 0.1):.0%} | {inside:.0%} | {width:.0%} |"
            )


if __name__ == "__main__":
    main()
