"""Scheduling and bookkeeping in an engine's step: `python results/loop_profile.py [sequences]`.

All sequences decode together, 128 tokens in and 128 out, on OPT-125M's shape. Time outside the model's
forward pass and its LM head counts as bookkeeping, including cProfile's own cost: an upper bound.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from pathlib import Path

from pagedbench.backend import load_backend
from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.workload.arrivals import FixedArrivals

LENGTH = 128  # tokens of every prompt, and of every reply
MODEL = ("forward", "greedy", "logits")  # of models/decoder.py: the model's own work
NUM_SHOWN = 12


def profile(num_sequences: int) -> pstats.Stats:
    """One run of the engine after a first one that warms it up."""
    plan = make_plan(RunConfig(load_format="dummy"))
    backend = load_backend(plan)
    requests = [
        Request(i, 0.0, Prompt(LENGTH, seed=i), SamplingParams(LENGTH)) for i in range(num_sequences)
    ]
    backend.make_engine(plan).run(FixedArrivals(requests))
    engine, profiler = backend.make_engine(plan), cProfile.Profile()
    profiler.enable()
    engine.run(FixedArrivals(requests))
    profiler.disable()
    return pstats.Stats(profiler)


def main() -> None:
    num_sequences = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    seconds: dict[str, tuple[int, float, float]] = {}  # calls, own seconds, with what it calls
    for (file, _, function), (_, calls, own, cumulative, _) in profile(num_sequences).stats.items():
        name = f"{'/'.join(Path(file).parts[-2:])}:{function}"
        if name in seconds:  # Layer.forward beside Decoder.forward: the outer one has more
            calls, own, cumulative = max((calls, own, cumulative), seconds[name], key=lambda item: item[2])
        seconds[name] = (calls, own, cumulative)
    total = seconds["pagedbench/engine.py:run"][2]
    steps = seconds["execution/model_runner.py:execute"][0]
    model = sum(seconds.get(f"models/decoder.py:{name}", (0, 0.0, 0.0))[2] for name in MODEL)
    print(f"{num_sequences} sequences, {steps} steps of {total / steps * 1e3:.2f} ms")
    print(f"model {model / total:.2%}, scheduling and bookkeeping {1 - model / total:.2%}\n")
    print("| calls | own, us per step | with its callees, us per step | function |\n|--:|--:|--:|---|")
    for name, (calls, own, cumulative) in sorted(seconds.items(), key=lambda item: -item[1][1])[:NUM_SHOWN]:
        print(f"| {calls} | {own / steps * 1e6:.1f} | {cumulative / steps * 1e6:.1f} | {name} |")


if __name__ == "__main__":
    main()
