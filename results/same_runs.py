"""Do two checkouts decide the same? Runs the same simulations with both, and compares their tables.

    python results/same_runs.py OLD NEW

OLD and NEW are `pagedbench` programs of two checkouts, such as ../before/.venv/bin/pagedbench.
Equal means: `requests.csv` and `steps.csv` have the same bytes in every column of the old ones.
Exits with 1 if not.
"""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import tempfile
from pathlib import Path

SEEDS = ("--seed", "0,1,2")
OPT = ("--model", "opt-13b", "--device", "sim:a100-40gb", *SEEDS)
EVERY_SYSTEM = ("--system", "paged,orca-oracle,orca-pow2,orca-max,fastertransformer")
SMALL = (*OPT, "--kv-slots", "4096", "--rate", "2.5", "--duration", "20")
SAMPLES = ("--n", "4", "--temperature", "1")

COMMANDS: dict[str, tuple[str, ...]] = {
    "sharegpt": (*OPT, *EVERY_SYSTEM, "--rate", "1.5", "--duration", "40"),
    "alpaca": (*OPT, *EVERY_SYSTEM, "--trace", "alpaca", "--rate", "20", "--num-requests", "150"),
    "all-at-once": (*OPT, *EVERY_SYSTEM, "--rate", "inf", "--num-requests", "40"),
    "samples": (*OPT, *SAMPLES, "--system", "paged,orca-pow2", "--rate", "1", "--duration", "30"),
    "beams": (*OPT, "--beam-width", "4", "--system", "paged,orca-oracle", "--rate", "1",
              "--duration", "30"),
    "preemption": (*SMALL, "--preemption", "auto,recompute,swap"),
    "preempted-samples": (*SMALL, *SAMPLES, "--preemption", "auto,recompute,swap"),
    "preempted-beams": (*SMALL, "--beam-width", "2", "--preemption", "recompute,swap"),
    "blocks": (*SMALL, "--block-size", "1,8,32"),
    "separate": (*SMALL, "--prefill", "separate"),
    "shared-prefix": (*SMALL, "--trace", "alpaca", "--shared-prefix-len", "200",
                      "--shared-prefix-groups", "3"),
    "prefix-caching": (*SMALL, "--trace", "alpaca", "--shared-prefix-len", "200",
                       "--shared-prefix-groups", "8", "--prefix-caching", "on,off"),
    "chat": (*OPT, "--trace", "chat.csv", "--rate", "1.5", "--prefix-caching", "on,off"),
    "timed": (*OPT, *EVERY_SYSTEM, "--trace", "timed.csv", "--arrival", "trace"),
    "parts": (*SMALL, "--prefill", "chunked", "--max-num-batched-tokens", "128",
              "--admission", "prompt-first-chunk"),
    "queue": (*OPT, "--rate", "6", "--duration", "60", "--max-num-seqs", "8,256"),
    "closed": (*OPT, "--kv-slots", "4096", "--arrival", "closed", "--max-concurrency", "20",
               "--num-requests", "120"),
    "evictions": (*SMALL, "--trace", "alpaca", "--shared-prefix-len", "200", "--shared-prefix-groups", "8",
                  "--prefix-caching", "--eviction", "lru,s3-fifo,gdsf,ttl:2s,belady"),
    "published": (*SMALL, "--cost-model", "published"),
}  # fmt: skip
TABLES = ("requests.csv", "steps.csv")


def write_traces(folder: Path) -> None:
    """Write a trace of sessions, and one with its own times."""
    draw = random.Random(0)
    lengths = [(draw.randint(20, 400), draw.randint(5, 200)) for _ in range(90)]
    sessions = [f"{prompt},{output},s{number % 30}\n" for number, (prompt, output) in enumerate(lengths)]
    (folder / "chat.csv").write_text("prompt_len,output_len,session\n" + "".join(sessions))
    times = sorted(draw.uniform(0, 60) for _ in lengths)
    rows = [
        f"{prompt},{output},{time:.3f}\n" for (prompt, output), time in zip(lengths, times, strict=True)
    ]
    (folder / "timed.csv").write_text("prompt_len,output_len,arrival_s\n" + "".join(rows))


def run(program: Path, traces: Path, folder: Path) -> None:
    """Run all commands, with one folder each."""
    for name, options in COMMANDS.items():
        command = [
            program,
            "run",
            *options,
            "--output",
            folder / name,
            "--progress",
            "none",
            "--format",
            "csv",
        ]
        done = subprocess.run(command, cwd=traces, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{program} {name}: exit code {done.returncode}\n{done.stderr}")


def columns(path: Path) -> dict[str, list[str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines)
    return {name: [row[number] for row in rows] for number, name in enumerate(header)}


def differences(old: Path, new: Path) -> tuple[int, list[str]]:
    """How many runs were compared, and what differs."""
    runs = sorted(path.parent.relative_to(old) for path in old.rglob("manifest.json"))
    found = []
    if missing := set(runs) ^ {path.parent.relative_to(new) for path in new.rglob("manifest.json")}:
        found.append(f"runs that one side lacks: {', '.join(map(str, sorted(missing)))}")
        runs = [run for run in runs if run not in missing]
    for folder in runs:
        for table in TABLES:
            before, after = columns(old / folder / table), columns(new / folder / table)
            shared = [name for name in before if name in after]
            changed = [name for name in shared if before[name] != after[name]]
            gone = [name for name in before if name not in after]
            if changed or gone:
                found.append(f"{folder}/{table}: changed {changed}, gone {gone}")
    return len(runs), found


def main() -> None:
    old, new = (Path(name).absolute() for name in sys.argv[1:])
    with tempfile.TemporaryDirectory() as place:
        traces = Path(place)
        write_traces(traces)
        for program, name in ((old, "old"), (new, "new")):
            run(program, traces, traces / name)
        count, found = differences(traces / "old", traces / "new")
    print("\n".join([*found, f"{count} runs, {len(found)} tables differ"]))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
