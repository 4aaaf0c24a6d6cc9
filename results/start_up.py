"""Where the seconds go from `pagedbench run` to the first token, with the README's model on this CPU.

`python results/start_up.py` starts the command several times, and prints the least seconds of each stage as
the table of start-up.md. Times are wall-clock times, so the machine has to be quiet.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 5
COMMAND = ("run", "--system", "paged", "--trace", "sharegpt", "--rate", "inf", "--num-requests", "1",
           "--progress", "none", "--format", "json", "--output")  # fmt: skip
STAGES = ("start, options", "plan, torch", "trace", "weights", "warm-up", "bandwidth", "first token")


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(stages(sys.argv[1], float(sys.argv[2]))))
        return
    runs = [run_child() for _ in range(REPEATS)]
    print("| stage | seconds |\n|---|--:|")
    for stage in STAGES:
        print(f"| {stage} | {min(run[stage] for run in runs):.2f} |")
    print(f"| all | {min(sum(run.values()) for run in runs):.2f} |")


def run_child() -> dict[str, float]:
    """The seconds of each stage of one command."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, f"{folder}/run", str(time.time())]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds: dict[str, float] = json.loads(printed.splitlines()[-1])
    return seconds


def stages(folder: str, start: float) -> dict[str, float]:
    """Run the command in this process. The ends of its stages are noted as it calls their functions."""
    ends = {}

    def mark(stage: str) -> None:
        ends.setdefault(stage, time.time() - start)

    def watched(function: Callable[..., Any], before: str | None, after: str | None) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if before is not None:
                mark(before)
            answer = function(*args, **options)
            if after is not None:
                mark(after)
            return answer

        return call

    from pagedbench.cli.entry import main as command
    from pagedbench.runs import configs

    patch.object(configs, "run_configs", watched(configs.run_configs, None, STAGES[0])).start()
    from pagedbench import plan

    patch.object(plan, "make_plan", watched(plan.make_plan, None, STAGES[1])).start()
    from pagedbench.runs import runner
    from pagedbench.runs.memory_bandwidth import read_bandwidth
    from pagedbench.runs.runner import Runner

    patch.object(Runner, "prepare", watched(Runner.prepare, STAGES[2], None)).start()
    patch.object(Runner, "_load", watched(Runner._load, None, STAGES[3])).start()
    patch.object(Runner, "run", watched(Runner.run, STAGES[4], None)).start()
    patch.object(runner, "read_bandwidth", watched(read_bandwidth, None, STAGES[5])).start()
    from pagedbench.engine import Engine

    step = Engine.step

    def first_step(engine: Engine, source: Any) -> bool:
        happened = step(engine, source)
        if happened and STAGES[5] in ends:
            mark(STAGES[6])
        return happened

    patch.object(Engine, "step", first_step).start()
    sys.argv[1:] = [*COMMAND, folder]
    with suppress(SystemExit):
        command()
    times = [0.0, *(ends[stage] for stage in STAGES)]
    return {stage: times[i + 1] - times[i] for i, stage in enumerate(STAGES)}


if __name__ == "__main__":
    main()
