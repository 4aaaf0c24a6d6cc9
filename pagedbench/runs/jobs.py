"""Jobs: runs with everything decided and checked, before anything is loaded or written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.config import RunConfig
    from pagedbench.plan import Plan
    from pagedbench.runs.options import Given
    from pagedbench.workload.dataset import Dataset
    from pagedbench.workload.trace import Trace

    Source: TypeAlias = tuple[str, str | None]
    """A trace, and the tokenizer that counts its text."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        name: system, trace, rate, seed, and the options in which the runs of the command differ.
        folder: where the results go; None where the folder is named after the time at which the run starts.
    """

    plan: Plan
    trace: Trace
    name: str
    folder: Path | None


def prepare(configs: list[RunConfig], given: Given) -> list[Job]:
    """Plan every run, build its trace, and look at the place of its results.

    Raises:
        ConfigError, TraceError, ModelError: what was asked for cannot be run or saved.
    """
    from pagedbench.runs.names import check_names

    check_names(configs, given)
    from pagedbench.plan import make_plan, with_length_of, with_room_for  # numpy, on a real device torch
    from pagedbench.simulation.memory_plan import parse_bytes
    from pagedbench.workload.chat import with_histories
    from pagedbench.workload.dropped import longest_len

    for config in configs:
        for size in filter(None, (config.kv_memory, config.swap_space)):
            parse_bytes(size)
    _check_slo(configs[0].slo)
    plans = [make_plan(config) for config in configs]
    if not given.dry_run:
        for plan in plans:
            _check_memory(plan)
    datasets = _datasets(plans, is_asked="tokenizer" in given.flags)
    longest = {source: longest_len(with_histories(data.rows)) for source, data in datasets.items()}
    plans = [
        with_length_of(plan, config, longest[_source(plan)])
        for plan, config in zip(plans, configs, strict=True)
    ]
    traces = _traces(plans, datasets)
    for index, (config, trace) in enumerate(zip(configs, traces, strict=True)):
        if config.batch_size is None:  # the default is for the widest request
            plans[index] = with_room_for(plans[index], trace.max_width(config.max_num_seqs))
    for plan, trace in zip(plans, traces, strict=True):
        _check_vocabulary(plan, trace)
    names = _names(configs, plans, traces)
    return [
        Job(plan, trace, name, given.output and (given.output / name if len(names) > 1 else given.output))
        for plan, trace, name in zip(plans, traces, names, strict=True)
    ]


def _check_slo(slo: str | None) -> None:
    from pagedbench.metrics.formulas import parse_slo

    if slo is not None:
        try:
            parse_slo(slo)
        except ValueError as error:
            raise ConfigError(f"--slo cannot be read: {error}") from None


def _check_memory(plan: Plan) -> None:
    """A model that cannot fit would be killed by the system, and others with it."""
    from pagedbench.pool import ELEMENT_SIZES
    from pagedbench.runs.machine import fingerprint
    from pagedbench.runs.numbers import gibibytes

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
    widest = max(r.sampling.beam_width or 1 for r in trace.requests)
    if widest > size:
        raise ConfigError(
            f"a search with {widest} beams begins with as many different tokens, but the vocabulary of "
            f"{plan.config.model} has {size}: ask for fewer beams"
        )


def _source(plan: Plan) -> Source:
    return plan.config.trace, plan.config.tokenizer or plan.tokenizer


def _datasets(plans: list[Plan], *, is_asked: bool) -> dict[Source, Dataset]:
    """Every data set, by where it comes from.

    `is_asked`: --tokenizer was given, and must be of use to somebody.
    """
    from pagedbench.workload.dataset import load_dataset

    datasets: dict[Source, Dataset] = {}
    for plan in plans:
        source = _source(plan)
        if source not in datasets:
            datasets[source] = load_dataset(*source, chat=plan.config.chat)
    if is_asked and not any(dataset.is_text for dataset in datasets.values()):
        names = dict.fromkeys(name for name, _ in datasets)
        raise ConfigError(
            f"--tokenizer has no effect: {' and '.join(names)} holds no text to count tokens of"
        )
    return datasets


def _traces(plans: list[Plan], datasets: dict[Source, Dataset]) -> list[Trace]:
    """The trace of every plan; plans that ask for the same requests share one."""
    from pagedbench.runs.traces import trace_of

    traces: dict[tuple[object, ...], Trace] = {}
    chosen = []
    for plan in plans:
        config = plan.config
        limits = (config.max_model_len, plan.shape.vocab_size)
        key = (*_source(plan), *limits, config.rate, config.seed, config.n, config.beam_width)
        if key not in traces:
            traces[key] = trace_of(plan, datasets[_source(plan)])
        chosen.append(traces[key])
    return chosen


def _names(configs: list[RunConfig], plans: list[Plan], traces: list[Trace]) -> list[str]:
    """A name for every run. It holds the list-valued options in which the runs, as asked for, differ."""
    from pagedbench.runs.cell import LETTERS, differing, run_name

    names: list[str] = []
    for config, plan, trace in zip(configs, plans, traces, strict=True):
        name = run_name(config, plan, trace, differing(configs, LETTERS))
        taken = sum(other == name or other.startswith(f"{name}~") for other in names)
        names.append(f"{name}~{taken + 1}" if taken else name)  # files of one name in two folders
    return names
