"""How often the gate fails on the real engine, with and without a slowdown, and its power.

    python results/gate_proof.py measure FOLDER [SECONDS]   add blocks of runs, until there are all
    python results/gate_proof.py judge FOLDER               the tables of gate-proof.md
    python results/gate_proof.py slow ARGUMENTS             pagedbench, with its engine slowed down

A block is five repeats of runs of the same requests: with the engine, with the same engine, and in every
third block with a slowed-down engine, whose model runner waits after each iteration for a tenth of the
iteration's time. Each run has a fresh engine over a model that is loaded once.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

import pagedbench.execution.model_runner as runner
from pagedbench.backend import load_backend
from pagedbench.cli.app import main as pagedbench
from pagedbench.clock import utc_text
from pagedbench.config import RunConfig
from pagedbench.metrics.statistics import GATED_ALPHA, POWER, detectable
from pagedbench.plan import make_plan
from pagedbench.runs.files import write_run
from pagedbench.runs.result import Result
from pagedbench.runs.saved import load_runs
from pagedbench.runs.traces import trace_of
from pagedbench.tools.compare.comparison import Comparison, Side, compare_sides
from pagedbench.tools.compare.gate import Gate
from pagedbench.tools.compare.rounds import turns_of
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.samples import Samples
    from pagedbench.tools.compare.gate import GateResult

SLOWDOWN = 0.1
NUM_REQUESTS, PROMPT_LEN, OUTPUT_LEN = 64, 8, 20  # all at once: one iteration for each token
NUM_BLOCKS, REPEATS = 30, 5
GATE = Gate(("tpot_p50_ms",), threshold=0.05)
MAX_FOREIGN = 0.05  # of the processors' time: a repeat that others disturb more is measured again

ModelExecutor = runner.ModelExecutor
execute = ModelExecutor.execute


def execute_slowly(self: ModelExecutor, batch: Batch) -> Samples:
    """Execute, then wait in a busy loop for SLOWDOWN of the time that it took."""
    start = time.perf_counter()
    samples = execute(self, batch)
    end = start + (time.perf_counter() - start) * (1 + SLOWDOWN)
    while time.perf_counter() < end:
        pass
    return samples


def sides_of(block: int) -> tuple[str, ...]:
    return ("a", "b", "slow") if block % 3 == 1 else ("a", "b")


class Bench:
    """The workload on a loaded model."""

    def __init__(self, folder: Path) -> None:
        lengths = folder / "lengths.csv"
        rows = f"{PROMPT_LEN},{OUTPUT_LEN}\n" * NUM_REQUESTS
        lengths.write_text(f"prompt_len,output_len\n{rows}", encoding="ascii")
        config = RunConfig(
            trace=str(lengths), rate=math.inf, num_requests=NUM_REQUESTS, load_format="dummy"
        )
        self.plan = make_plan(config)
        self.trace = trace_of(self.plan, load_dataset(str(lengths)))
        self.backend = load_backend(self.plan)
        self.backend.warm_up(self.plan)
        self.backend.make_engine(self.plan).run(self.trace.arrivals())

    def run(self, folder: Path, *, is_slow: bool) -> float:
        """One run, saved. Returns the share of the processors that other processes took meanwhile."""
        engine = self.backend.make_engine(self.plan)
        ModelExecutor.execute = execute_slowly if is_slow else execute
        started, foreign, start = utc_text(), foreign_time(), time.perf_counter()
        record = engine.run(self.trace.arrivals())
        seconds = time.perf_counter() - start
        share = (foreign_time() - foreign) / seconds / (os.cpu_count() or 1)
        result = Result(
            self.plan, self.trace, record, command="gate_proof.py", started=started, ended=utc_text()
        )
        write_run(result, folder, force=True, save_outputs=False)
        return share


def foreign_time() -> float:
    """Processor seconds that all other processes have taken since the machine started."""
    ticks = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split()[1:9]]
    busy = sum(ticks) - ticks[3] - ticks[4]  # without idling and waiting for a disk
    own = os.times()
    return busy / os.sysconf("SC_CLK_TCK") - own.user - own.system


def measure(folder: Path, seconds: float) -> None:
    """Blocks that the folder does not have yet, each whole, while the time lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    end, bench = time.perf_counter() + seconds, Bench(folder)
    for block in range(1, NUM_BLOCKS + 1):
        if (folder / f"{block:02d}").exists():
            continue
        began, again = time.perf_counter(), 0
        for repeat in range(1, REPEATS + 1):
            while not is_quiet(bench, folder, block, repeat):
                again += 1
                if time.perf_counter() > end:
                    return
        (folder / f".{block:02d}").rename(folder / f"{block:02d}")
        now = time.perf_counter()
        print(f"block {block}: {now - began:.1f} s, {again} repeats measured again", flush=True)
        if now + now - began > end:
            return


def is_quiet(bench: Bench, folder: Path, block: int, repeat: int) -> bool:
    """Measure one repeat of all sides. Was the machine free of others?"""
    names = sides_of(block)
    turns = [turn for turn in turns_of(len(names), 1, REPEATS) if turn.repeat == repeat]
    place = folder / f".{block:02d}"
    shares = [
        bench.run(place / names[turn.side] / str(repeat), is_slow=names[turn.side] == "slow")
        for turn in turns
    ]
    return max(shares) <= MAX_FOREIGN


def judged(folder: Path, candidate: str) -> Comparison:
    sides = [Side(name, tuple(load_runs([folder / name]))) for name in ("a", candidate)]
    return compare_sides(sides[0], sides[1:], threshold=GATE.threshold, gate=GATE)


def judge(folder: Path) -> None:
    """Print the gate's outcome for every block, and whether detectable changes are detected."""
    noise = []
    print("| block | candidate | change | 95 % interval | gate | detectable |")
    print("|--:|---|--:|--:|---|--:|")
    for candidate in ("b", "slow"):
        for block in range(1, NUM_BLOCKS + 1):
            if (folder / f"{block:02d}" / candidate).exists():
                (result,) = judged(folder / f"{block:02d}", candidate).results
                print(f"| {block} | {candidate} | {cells(result)} |")
                if candidate == "b" and result.finding.effect is not None:
                    noise.append(result.finding.effect)
    deviation = math.sqrt(statistics.fmean(effect.deviation**2 for effect in noise))
    beyond = math.log1p(GATE.threshold) + NormalDist().inv_cdf(POWER) * deviation / math.sqrt(REPEATS)
    shift = max(beyond, detectable(deviation, REPEATS, level=1 - GATED_ALPHA))
    moved = [replace(effect, changes=tuple(item + shift for item in effect.changes)) for effect in noise]
    caught = sum(item.relative > GATE.threshold and item.p_value < GATED_ALPHA for item in moved)
    print(f"\nStandard deviation of an A/A pair, pooled over {len(noise)} blocks: {100 * deviation:.2f} %.")
    print(f"With it, {100 * math.expm1(shift):.1f} % is called detectable in 9 of 10 tries.")
    print(f"A/A blocks made slower by that: {caught} of {len(noise)} caught.")


def cells(result: GateResult) -> str:
    """Change, interval, outcome, and the change that this block calls detectable."""
    effect = result.finding.effect
    assert effect is not None
    assert result.detectable is not None
    low, high = (100 * effect.as_relative(bound) for bound in effect.interval())
    return (
        f"{100 * effect.relative:+.1f} % | {low:+.1f} to {high:+.1f} % "
        f"| {result.outcome.value} | {100 * result.detectable:.1f} %"
    )


def main() -> None:
    command, *arguments = sys.argv[1:]
    if command == "measure":
        measure(Path(arguments[0]), float(arguments[1]) if len(arguments) > 1 else math.inf)
    elif command == "judge":
        judge(Path(arguments[0]))
    else:
        ModelExecutor.execute = execute_slowly
        sys.argv[1:] = arguments
        pagedbench()


if __name__ == "__main__":
    main()
