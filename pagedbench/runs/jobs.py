"""Jobs: runs with everything decided and checked, before a model is loaded or a file is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.config import RunConfig
    from pagedbench.plan import Plan
    from pagedbench.runs.options import CommandOptions
    from pagedbench.workload.dataset import Dataset
    from pagedbench.workload.trace import Trace

    Source: TypeAlias = tuple[str, str | None]
    """A trace, and the tokenizer for its text."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        name: system, trace, rate, seed, and the options in which the runs of the command differ.
        folder: where the results go; None: a folder named after the time at which the run starts.
    """

    plan: Plan
    trace: Trace
    name: str
    folder: Path | None


def prepare(configs: list[RunConfig], options: CommandOptions, *, is_saved: bool = True) -> list[Job]:
    """Plan every run, build its trace, and check that its results can be saved.

    Args:
        is_saved: without --output, are runs saved under `results` in the current folder?

    Raises:
        InputError: what was asked for cannot be run or saved.
    """
    from pagedbench.runs.names import check_names

    if options.output is not None or (is_saved and not options.dry_run):
        check_place(options)
    check_names(configs)
    from pagedbench.plan import make_plan, with_length_of, with_room_for  # numpy, on a real device torch
    from pagedbench.workload.dropped import longest_len
    from pagedbench.workload.length_scale import scaled
    from pagedbench.workload.sessions import with_histories

    for config in configs:
        check_sizes(config)
        if options.require_slo is not None and config.slo is None:
            raise ConfigError("--require-slo needs --slo, the bounds that requests must meet")
    plans = [make_plan(config) for config in configs]
    if not options.dry_run:
        for plan in plans:
            check_memory(plan)
    datasets = datasets_of(plans, is_tokenizer_given="tokenizer" in options.flags)
    scale = configs[0].length_scale  # the same in every run: the option takes no list
    longest = {
        source: longest_len(with_histories(scaled(data.rows, scale))) for source, data in datasets.items()
    }
    plans = [
        with_length_of(plan, config, longest[source_of(plan)])
        for plan, config in zip(plans, configs, strict=True)
    ]
    traces = traces_of(plans, datasets)
    for index, (config, trace) in enumerate(zip(configs, traces, strict=True)):
        if config.batch_size is None:  # the default has room for the widest request
            plans[index] = with_room_for(plans[index], trace.max_width(config.max_num_seqs))
        check_vocabulary(plans[index], trace)
    names, output = job_names(configs, plans, traces), options.output
    return [
        Job(plan, trace, name, output and (output / name if len(names) > 1 else output))
        for plan, trace, name in zip(plans, traces, names, strict=True)
    ]


def check_place(options: CommandOptions) -> None:
    from pagedbench.runs.files import check_default_place, check_folder

    if options.output is None:
        check_default_place()
    else:
        check_folder(options.output, force=options.force)


def check_sizes(config: RunConfig) -> None:
    """Check the options whose values have units."""
    from pagedbench.metrics.formulas import parse_slo
    from pagedbench.simulation.memory_plan import parse_bytes

    for size in filter(None, (config.kv_memory, config.swap_space, config.host_cache, config.disk_cache)):
        parse_bytes(size)
    if config.slo is not None:
        try:
            parse_slo(config.slo)
        except ValueError as error:
            raise ConfigError(f"--slo cannot be read: {error}") from None


def check_memory(plan: Plan) -> None:
    """Refuse a model that does not fit: the operating system would kill this process, perhaps others."""
    from pagedbench.pool import ELEMENT_SIZES
    from pagedbench.runs.machine import fingerprint
    from pagedbench.runs.numbers import gibibytes

    total = fingerprint()["memory"]
    if plan.config.device != "cpu" or not isinstance(total, int):
        return
    needed = plan.shape.num_parameters * ELEMENT_SIZES[plan.config.dtype] + plan.kv_bytes
    needed += plan.tier_slots.host * plan.kv_bytes // plan.kv_slots
    if needed > total:
        raise ConfigError(
            f"{plan.config.model} needs {gibibytes(needed)} for weights and KV pool, and this machine has "
            f"{gibibytes(total)}: choose a smaller --model or --kv-slots, or a simulated device"
        )


def check_vocabulary(plan: Plan, trace: Trace) -> None:
    """Refuse token ids and beams that the vocabulary is too small for. A simulation reads only lengths."""
    if plan.config.is_simulated and plan.server is None:
        return
    size = plan.shape.vocab_size
    largest = max(max(r.prompt.token_ids or (0,)) for r in trace.requests)
    if largest >= size:
        raise ConfigError(
            f"{trace.name} holds token {largest}, but the vocabulary of {plan.config.model} ends at "
            f"{size - 1}: use the model's own tokenizer"
        )
    widest = max(r.sampling.beam_width or 1 for r in trace.requests)
    if widest > size:
        raise ConfigError(
            f"a search with {widest} beams begins with {widest} different tokens, but the vocabulary of "
            f"{plan.config.model} has {size}: ask for fewer beams"
        )


def source_of(plan: Plan) -> Source:
    return plan.config.trace, plan.config.tokenizer or plan.tokenizer


def datasets_of(plans: list[Plan], *, is_tokenizer_given: bool) -> dict[Source, Dataset]:
    """Every data set, by its source. A --tokenizer without effect is refused."""
    from pagedbench.workload.dataset import load_dataset

    first = plans[0].config  # options without lists are the same in all runs
    datasets = {
        source: load_dataset(*source, chat=first.chat, block_size=first.trace_block_size)
        for source in dict.fromkeys(map(source_of, plans))
    }
    if is_tokenizer_given and not any(dataset.is_text for dataset in datasets.values()):
        names = dict.fromkeys(name for name, _ in datasets)
        raise ConfigError(
            f"--tokenizer has no effect: {' and '.join(names)} holds no text to count tokens of"
        )
    return datasets


def traces_of(plans: list[Plan], datasets: dict[Source, Dataset]) -> list[Trace]:
    """The trace of every plan; plans that ask for the same requests share one."""
    from pagedbench.runs.traces import trace_of

    traces: dict[tuple[object, ...], Trace] = {}
    chosen = []
    for plan in plans:
        config = plan.config
        limits = (config.max_model_len, plan.shape.vocab_size)
        arrival = (config.arrival, config.rate, config.num_requests, config.duration)
        key = (*source_of(plan), *limits, *arrival, config.seed, config.n, config.beam_width)
        if key not in traces:
            traces[key] = trace_of(plan, datasets[source_of(plan)])
        chosen.append(traces[key])
    return chosen


def job_names(configs: list[RunConfig], plans: list[Plan], traces: list[Trace]) -> list[str]:
    """A name for every run. It holds the list-valued options in which the runs, as asked for, differ."""
    from pagedbench.runs.cell import LETTERS, differing, run_name

    names: list[str] = []
    for config, plan, trace in zip(configs, plans, traces, strict=True):
        name = run_name(config, plan, trace, differing(configs, LETTERS))
        taken = sum(other == name or other.startswith(f"{name}~") for other in names)
        names.append(f"{name}~{taken + 1}" if taken else name)  # files with one name in two folders
    return names
