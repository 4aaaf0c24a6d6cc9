"""How fast the simulator is: the time and the memory of whole commands, and the CPU time of their loops.

A token-step is one sequence in one iteration. `python results/simulator_speed.py` prints the table of
simulator-speed.md; names of cases choose some of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from pagedbench.backend import SimulatedBackend
from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.request import SamplingParams
from pagedbench.workload.dataset import load_dataset
from pagedbench.workload.selection import Traffic
from pagedbench.workload.trace import build_trace

REPEATS = 3
LOOP = "--loop"

HOUR = {"trace": "sharegpt", "rate": 2.0, "duration": 3600.0}
PARALLEL = {"trace": "alpaca", "duration": 600.0}
CASES: dict[str, dict[str, Any]] = {
    "hour": HOUR,
    "hour-rate-1": HOUR | {"rate": 1.0},
    "orca-max": HOUR | {"rate": 1.0, "system": "orca-max"},
    "fastertransformer": HOUR | {"rate": 1.0, "system": "fastertransformer"},
    "n-4": PARALLEL | {"rate": 8.0, "n": 4, "temperature": 1.0},
    "beam-width-4": PARALLEL | {"rate": 6.0, "beam_width": 4},
    "10k": {"trace": "sharegpt", "rate": 1.5, "num_requests": 10_000},
    "100k": {"trace": "sharegpt", "rate": 1.5, "num_requests": 100_000},
    "10k-overload": {"trace": "sharegpt", "rate": 4.0, "num_requests": 10_000},
    "100k-overload": {"trace": "sharegpt", "rate": 4.0, "num_requests": 100_000},
}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a child process took: seconds by the wall clock, and of CPU (user, system, its children); MB."""

    wall: float
    seconds: float
    memory: float
    printed: str


def main() -> None:
    if sys.argv[1:2] == [LOOP]:
        print(json.dumps(run_loop(CASES[sys.argv[2]])))
        return
    print(
        "| case | requests | iterations | token-steps | command, s | requests/s | its CPU, s | MB ", end=""
    )
    print("| loop, CPU s | us/iteration | token-steps/s |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name in sys.argv[1:] or CASES:
        print(row_of(name), flush=True)


def row_of(name: str) -> str:
    """The least of several repeats, because whatever disturbs a run makes it longer."""
    commands = [run_command(CASES[name]) for _ in range(REPEATS)]
    loops = [json.loads(run_child([__file__, LOOP, name]).printed) for _ in range(REPEATS)]
    steps, token_steps = loops[0]["steps"], loops[0]["token_steps"]
    loop, wall = min(item["seconds"] for item in loops), min(item.wall for item in commands)
    requests, seconds = loops[0]["requests"], min(item.seconds for item in commands)
    return (
        f"| {name} | {requests:,} | {steps:,} | {token_steps:,} | {wall:.2f} | {requests / wall:,.0f} "
        f"| {seconds:.2f} | {commands[0].memory:.0f} | {loop:.2f} | {1e6 * loop / steps:.1f} "
        f"| {token_steps / loop:,.0f} |"
    )


def run_loop(options: dict[str, Any]) -> dict[str, float]:
    """From the first arrival to the complete record, in this process."""
    config = RunConfig(model="opt-13b", device="sim:a100-40gb", **options)
    plan = make_plan(config)
    decoding = SamplingParams(0, n=config.n, beam_width=config.beam_width, temperature=config.temperature)
    trace = build_trace(
        load_dataset(config.trace),
        traffic=Traffic(rate=config.rate),
        duration=config.duration,
        num_requests=config.num_requests,
        decoding=decoding,
    )
    engine = SimulatedBackend().make_engine(plan)
    start = time.process_time()
    record = engine.run(trace.arrivals(), repeats=True)  # as the command does
    seconds = time.process_time() - start
    return {
        "requests": len(record.requests),
        "steps": len(record.steps),
        "token_steps": engine.recorder.num_tokens,
        "seconds": seconds,
    }


def run_command(options: dict[str, Any]) -> Usage:
    """`pagedbench run` with its start and all its files."""
    words = ["-m", "pagedbench", "run", "--model", "opt-13b", "--device", "sim:a100-40gb"]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    with tempfile.TemporaryDirectory() as folder:
        return run_child([*words, "--output", folder, "--progress", "none"])


def run_child(words: list[str]) -> Usage:
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        printed = child.stdout.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, f"{words} ended with {child.returncode}"
    wall = time.perf_counter() - start
    return Usage(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, printed)


if __name__ == "__main__":
    main()
