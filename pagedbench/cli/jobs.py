"""Jobs: runs with everything decided and checked, before anything is loaded or written."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.cli.options import Given
    from pagedbench.config import RunConfig
    from pagedbench.plan import Plan
    from pagedbench.workload.dataset import Dataset
    from pagedbench.workload.trace import Trace


@dataclass(frozen=True, slots=True)
class Job:
    """One run. `folder` is None where the run is to make its own name from the time it starts."""

    plan: Plan
    trace: Trace
    folder: Path | None


def prepare(configs: list[RunConfig], given: Given) -> list[Job]:
    """Plan every run, build its trace, and look at the place of its results.

    Raises:
        ConfigError, TraceError, ModelError: what was asked for cannot be run or saved.
    """
    from pagedbench.plan import make_plan
    from pagedbench.report.files import check_default_place, check_folder

    if given.output is not None:
        check_folder(given.output, force=given.force)
    elif not given.dry_run:
        check_default_place()
    if any(config.memory or config.batching for config in configs):
        sys.path.append(os.getcwd())  # classes of one's own lie where one works
    plans = [make_plan(config) for config in configs]
    for plan in plans:
        _check_slo(plan.config.slo)
        if not given.dry_run:
            _check_memory(plan)
    traces = _traces(plans, is_asked="tokenizer" in given.flags)
    for plan, trace in zip(plans, traces, strict=True):
        _check_vocabulary(plan, trace)
    folders = _folders(given.output, plans, traces)
    return [Job(*parts) for parts in zip(plans, traces, folders, strict=True)]


def _check_slo(slo: str | None) -> None:
    from pagedbench.metrics.formulas import parse_slo

    if slo is not None:
        try:
            parse_slo(slo)
        except ValueError as error:
            raise ConfigError(f"--slo cannot be read: {error}") from None


def _check_memory(plan: Plan) -> None:
    """A model that cannot fit would be killed by the system, and others with it."""
    from pagedbench.plan import ELEMENT_SIZES
    from pagedbench.report.machine import fingerprint
    from pagedbench.report.numbers import gibibytes

    total = fingerprint()["memory"]
    if plan.config.device != "cpu" or not isinstance(total, int):
        return
    needed = plan.shape.num_parameters * ELEMENT_SIZES[plan.config.dtype] + plan.kv_bytes
    if needed > total:
        raise ConfigError(
            f"{plan.config.model} needs {gibibytes(needed)} for weights and KV pool, and this machine has "
            f"{gibibytes(total)}: choose a smaller --model or --kv-slots, or a simulated device"
        )


def _check_vocabulary(plan: Plan, trace: Trace) -> None:
    """In a simulation only lengths count, and token ids may be of any model."""
    if plan.config.is_simulated:
        return
    size = plan.shape.vocab_size
    largest = max(
        (max(r.prompt.token_ids, default=0) for r in trace.requests if r.prompt.token_ids), default=0
    )
    if largest >= size:
        raise ConfigError(
            f"{trace.name} holds token {largest}, but the vocabulary of {plan.config.model} ends at "
            f"{size - 1}: use the model's own tokenizer"
        )


def _traces(plans: list[Plan], *, is_asked: bool) -> list[Trace]:
    """The trace of every plan; plans that ask for the same requests share one.

    `is_asked`: --tokenizer was given, and must be of use to somebody.
    """
    from pagedbench.workload.trace import build_trace

    datasets: dict[str, Dataset] = {}
    traces: dict[tuple[object, ...], Trace] = {}
    chosen = []
    for plan in plans:
        config = plan.config
        if config.trace not in datasets:
            datasets[config.trace] = _dataset(plan)
        key = (config.trace, config.rate, config.seed)
        if key not in traces:
            traces[key] = build_trace(
                datasets[config.trace],
                arrival=config.arrival,
                rate=None if config.arrival == "trace" else config.rate,
                burstiness=config.burstiness,
                num_requests=config.num_requests,
                duration=config.duration,
                max_model_len=config.max_model_len or plan.shape.max_model_len,
                seed=config.seed,
            )
        chosen.append(traces[key])
    if is_asked and not any(dataset.is_text for dataset in datasets.values()):
        raise ConfigError(
            f"--tokenizer has no effect: {' and '.join(datasets)} holds no text to count tokens of"
        )
    return chosen


def _dataset(plan: Plan) -> Dataset:
    from pagedbench.workload.dataset import load_dataset

    return load_dataset(plan.config.trace, plan.config.tokenizer or plan.tokenizer)


def _folders(output: Path | None, plans: list[Plan], traces: list[Trace]) -> list[Path | None]:
    """--output itself for one run, a folder in it for each of several."""
    if output is None or len(plans) == 1:
        return [output] * len(plans)
    names: list[str] = []
    for plan, trace in zip(plans, traces, strict=True):
        config = plan.config
        rate = "trace" if config.arrival == "trace" else f"{config.rate:g}"
        name = f"{config.system}_{trace.name}_r{rate}_s{config.seed}"
        if len({other.config.block_size for other in plans}) > 1:
            name += f"_b{config.block_size}"
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
        taken = sum(other == name or other.startswith(f"{name}~") for other in names)
        names.append(f"{name}~{taken + 1}" if taken else name)  # files of one name in two folders
    return [output / name for name in names]
