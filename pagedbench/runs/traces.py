"""The trace of a plan, built by the workload from the plan's options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.option_values import NO_RATE
from pagedbench.request import SamplingParams
from pagedbench.workload.processes import Ramp, Spike
from pagedbench.workload.prompts import SharedPrefixes
from pagedbench.workload.selection import Traffic
from pagedbench.workload.trace import build_trace

if TYPE_CHECKING:
    from pagedbench.config import RunConfig
    from pagedbench.plan import Plan
    from pagedbench.workload.dataset import Dataset
    from pagedbench.workload.processes import Shape
    from pagedbench.workload.trace import Trace


def traffic_of(config: RunConfig) -> Traffic:
    """How the requests of a run arrive."""
    shape: Shape | None = None
    if config.arrival == "spike":
        shape = Spike(config.spike_at, config.spike_duration, config.spike_factor)
    elif config.arrival == "ramp":
        assert config.ramp_to is not None, "RunConfig refuses a ramp without an end"
        shape = Ramp(config.ramp_to)
    return Traffic(
        arrival=config.arrival,
        rate=None if config.arrival in NO_RATE else config.rate,
        burstiness=config.burstiness,
        time_scale=config.time_scale,
        shape=shape,
        max_concurrency=config.max_concurrency,
        think_time=config.think_time,
        turn_times=config.turn_times,
    )


def trace_of(plan: Plan, dataset: Dataset) -> Trace:
    """The requests of a plan. Another rate scales the same random gaps.

    Raises:
        TraceError: the data set has no such requests.
    """
    config = plan.config
    return build_trace(
        dataset,
        traffic_of(config),
        length_scale=config.length_scale,
        num_requests=config.num_requests,
        duration=config.duration,
        max_model_len=config.max_model_len or plan.shape.max_model_len,
        decoding=SamplingParams(
            max_tokens=0,  # each row of the trace has its own
            n=config.n,
            beam_width=config.beam_width,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            seed=config.seed,
        ),
        shared=SharedPrefixes(config.shared_prefix_len, config.shared_prefix_groups, plan.shape.vocab_size),
        seed=config.seed,
    )
