"""The Python interface: the options of `pagedbench run` as keyword arguments, results as DataFrames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

from pagedbench.config import FIELDS, ConfigError, flag
from pagedbench.runs.configs import run_configs
from pagedbench.runs.jobs import prepare
from pagedbench.runs.options import parse_words
from pagedbench.runs.values import value_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from pagedbench.config import RunConfig
    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.memory.manager import KVManager
    from pagedbench.runs.options import CommandOptions
    from pagedbench.runs.result import Result
    from pagedbench.scheduling.admission import AdmissionPolicy
    from pagedbench.scheduling.scheduler import Scheduler
    from pagedbench.scheduling.victims import VictimPolicy

    System: TypeAlias = str | type[KVManager] | type[Scheduler]
    Words: TypeAlias = str | Sequence[str]
    Integers: TypeAlias = int | Sequence[int]
    Numbers: TypeAlias = float | Sequence[float]

DEFAULT_SIMULATED_DEVICE = "sim:a100-40gb"


class RunOptions(TypedDict, total=False):
    """The options of `pagedbench run`, by name; `pagedbench run --help` explains each.

    Sequences multiply into several runs (`sweep`). `system`, `memory` and `batching` also take a class.
    None means the default.
    """

    system: System | Sequence[System]
    trace: str | Path | Sequence[str]
    trace_block_size: int | None
    tokenizer: str | Path | None
    rate: Numbers
    arrival: Words
    time_scale: float
    spike_at: float | None
    spike_duration: float
    spike_factor: float
    ramp_to: float | None
    max_concurrency: int | None
    think_time: float
    turn_times: str
    length_scale: float
    burstiness: float
    num_requests: int | None
    duration: float | None
    chat: bool
    shared_prefix_len: int
    shared_prefix_groups: int
    warmup: int
    n: Integers
    beam_width: Integers | None
    temperature: float
    top_p: float
    top_k: int
    model: Words | Path
    load_format: str
    device: Words
    cost_model: str
    dtype: str
    kv_dtype: Words
    kernels: str
    tensor_parallel_size: Integers | None
    kv_slots: Integers | None
    kv_memory: Words | None
    gpu_memory_utilization: float | None
    block_size: Integers
    max_model_len: int | None
    max_num_seqs: Integers
    max_num_batched_tokens: Integers
    prefill_chunk_size: int | None
    batch_size: int | None
    memory: str | type[KVManager] | None
    batching: str | type[Scheduler] | None
    preemption: Words
    victim: Words | type[VictimPolicy] | Sequence[str | type[VictimPolicy]]
    admission: Words | type[AdmissionPolicy] | Sequence[str | type[AdmissionPolicy]]
    swap_space: str | None
    prefix_caching: bool | Sequence[bool]
    eviction: Words | type[EvictionPolicy] | Sequence[str | type[EvictionPolicy]]
    host_cache: str
    disk_cache: str
    disk_cache_dir: str | Path | None
    page_size: Words | None
    commit_ahead: Integers
    kept_pages: Words
    watermark: Numbers
    prefill: Words
    slo: str | None
    seed: Integers
    label: str | None
    config: str | Path | None
    output: str | Path | None
    force: bool
    save_outputs: bool
    save_events: bool


COMMAND_LINE_ONLY = ("strict", "require_slo", "format", "progress", "dry_run")
"""Options of the command that mean nothing here: nothing is printed, and there is no exit code."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        summary: the columns of summary.csv: what was run, and every metric by name, None where it is not
            defined. Also `status` ("complete", "interrupted", "crashed") and, for an invalid run, `reason`.
        requests: requests.csv, one row per request.
        steps: steps.csv, one row per iteration; `kv_*` are slots.
        folder: where the run is saved; None if it is not.
    """

    summary: dict[str, Any]
    requests: pd.DataFrame
    steps: pd.DataFrame
    folder: Path | None


def simulate(**options: Unpack[RunOptions]) -> Run:
    """Simulate one run in virtual time. The default device is an A100-40GB.

    Nothing is written without `output`.

    Raises:
        InputError: an option is unknown, impossible, without effect, or contradicts another.
        RuntimeError: the run crashed.
    """
    if options.get("device") is None and options.get("config") is None:
        options["device"] = DEFAULT_SIMULATED_DEVICE
    parsed, configs = _resolve(options)
    if not all(config.is_simulated for config in configs):
        raise ConfigError(
            f"a simulation needs a simulated --device, such as {DEFAULT_SIMULATED_DEVICE}: pagedbench.run "
            "is for real devices"
        )
    return _only_run(parsed, configs)


def run(**options: Unpack[RunOptions]) -> Run:
    """Make one run, on a real device unless `device` says otherwise; see `simulate`."""
    return _only_run(*_resolve(options))


def sweep(**options: Unpack[RunOptions]) -> pd.DataFrame:
    """Make every run that the sequences multiply into, one after the other; see `simulate`.

    Returns:
        One row per run, with the columns of `Run.summary`. A run that crashed has a row with its reason.
    """
    import pandas as pd

    return pd.DataFrame([made.summary for made in _runs(*_resolve(options))])


def read_run(folder: str | Path) -> Run:
    """Read a run from its folder.

    Raises:
        InputError: the folder is missing, damaged or incomplete.
    """
    from pagedbench.metrics.formulas import METRICS
    from pagedbench.runs.result import IDENTITY_COLUMNS
    from pagedbench.runs.saved import load_run

    saved = load_run(Path(folder).expanduser())
    identity = {name: saved.summary["run"].get(name) for name in IDENTITY_COLUMNS} | {"rate": saved.rate}
    values = {metric.name: saved.values.get(metric.name) for metric in METRICS}
    reasons = saved.manifest["invalid_because"]
    summary = _summary(saved.status, reasons, identity | values)
    return Run(summary, saved.requests, saved.steps, saved.folder)


def _resolve(options: RunOptions) -> tuple[CommandOptions, list[RunConfig]]:
    """Read the options as the command line would, so that errors have the same messages."""
    words: list[str] = []
    for name, value in options.items():
        if name in COMMAND_LINE_ONLY:
            raise ConfigError(f"{flag(name)} has no effect from Python: nothing is printed")
        if value is not None:
            words += _words(name, value)
    parsed = parse_words(words)
    return parsed, run_configs(parsed)


def _words(name: str, value: Any) -> list[str]:
    """An option as it would be typed."""
    is_one = isinstance(value, str | Path | type) or not isinstance(value, Iterable)
    items = [value] if is_one else [*value]
    is_switch = name in ("force", "save_outputs", "save_events") or (
        name in FIELDS and value_type(name) == "bool"
    )
    if is_switch and all(isinstance(item, bool) for item in items):
        if not is_one:
            return [flag(name), ",".join("on" if item else "off" for item in items)]
        return [flag(name)] if value else [f"--no-{flag(name)[2:]}"] if name in FIELDS else []
    return [flag(name), ",".join(_text(name, item) for item in items)]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, type):
        return str(value)
    from pagedbench.own_classes import reference_to

    return f"{value.__name__}={reference_to(value)}" if name == "system" else reference_to(value)


def _only_run(parsed: CommandOptions, configs: list[RunConfig]) -> Run:
    if len(configs) > 1:
        raise ConfigError(f"the options multiply into {len(configs)} runs: pagedbench.sweep makes several")
    (made,) = _runs(parsed, configs)
    if made.summary["status"] == "crashed":
        raise RuntimeError(f"{made.summary['reason']}; PAGEDBENCH_DEBUG=1 shows the whole traceback")
    return made


def _runs(parsed: CommandOptions, configs: list[RunConfig]) -> Iterator[Run]:
    jobs = prepare(configs, parsed, is_saved=False)
    from pagedbench.runs.files import write_run
    from pagedbench.runs.runner import Runner

    runner = Runner(
        "pagedbench from Python", save_outputs=parsed.save_outputs, save_events=parsed.save_events
    )
    for job in jobs:
        result = runner.run(runner.prepare(job.plan, job.trace))
        folder = job.folder
        if folder is not None:
            folder = write_run(result, folder, force=parsed.force, save_outputs=parsed.save_outputs)
        yield _run_of(result, folder)


def _run_of(result: Result, folder: Path | None) -> Run:
    import pandas as pd

    from pagedbench.runs.columns import request_columns, step_columns
    from pagedbench.runs.result import summary_row

    summary = _summary(result.status, result.record.invalid_because, summary_row(result))
    requests, steps = request_columns(result.record), step_columns(result.record)
    return Run(summary, pd.DataFrame(requests), pd.DataFrame(steps), folder)


def _summary(status: str, reasons: Sequence[str], row: dict[str, Any]) -> dict[str, Any]:
    return {"status": status, "reason": "; ".join(reasons) or None, **row}
