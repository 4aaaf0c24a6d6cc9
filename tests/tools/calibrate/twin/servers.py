"""A small server with known costs, for tests of its twin."""

from __future__ import annotations

from dataclasses import replace

from pagedbench.config import RunConfig
from pagedbench.plan import make_plan
from pagedbench.simulation.fitted_costs import FittedCosts
from pagedbench.tools.calibrate.twin.loads import Limits
from pagedbench.tools.calibrate.twin.server import ServerCosts

TRUE = FittedCosts(
    step=0.001,
    layers={1: 0.006, 16: 0.0075, 64: 0.012, 2048: 0.3},
    head={1: 0.0, 64: 0.004},
    sequence=4e-5,
    prompt=2e-4,
    context={"paged": 1.5e-6, "contiguous": 1.5e-6},
    pair=2e-8,
    copy=0.0,
    swap=0.0,
    move=0.0,
)
CONFIG = RunConfig(
    model="opt-125m",
    device="sim:twin.json",
    dtype="float16",
    kv_slots=8192,
    max_num_seqs=16,
    max_model_len=1024,
)


def plan_with(costs=TRUE, **options):
    plan = make_plan(replace(CONFIG, device="sim:h100", dtype="auto", **options))
    return replace(plan, step_times=costs.costs("paged", "known"))


def limits(**changes):
    usual = Limits(longest=1024, sequences=16, batched_tokens=2560, kept_tokens=8192, is_chunked=False)
    return replace(usual, **changes)


def profile_of(fit, num_requests=0, config=CONFIG):
    return ServerCosts("a server", "2026-11-27", config, plan_with().shape).profile(fit, num_requests)
