"""The content of a report on saved runs: findings, caveats, results, latency by stage, memory, origin."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pagedbench.config import ConfigError
from pagedbench.runs.attributed import attribution_of
from pagedbench.runs.numbers import counted, gibibytes, number
from pagedbench.show.remarks import bandwidth_sentences
from pagedbench.show.styles import PARTS
from pagedbench.tools.report.findings import findings
from pagedbench.tools.report.run_labels import in_order, run_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pagedbench.metrics.attribution import Attribution
    from pagedbench.runs.saved import SavedRun

COLUMNS = {
    "normalized_latency_mean_s": "mean s/token",
    "normalized_latency_p90_s": "p90 s/token",
    "ttft_p50_ms": "TTFT p50 ms",
    "ttft_p99_ms": "TTFT p99 ms",
    "tpot_p50_ms": "TPOT p50 ms",
    "request_throughput": "req/s",
    "steady_request_throughput": "steady req/s",
    "output_throughput": "output tok/s",
    "running_mean": "mean batch size",
    "kv_token_states_pct": "tokens % of KV",
    "preemptions_recompute": "recompute",
    "preemptions_swap": "swap",
}
"""Column of the table of results -> its heading."""

LONGEST_MS = 10_000
"""A column with a value from this many milliseconds on is in seconds."""

SMALLEST_SHARE = 5e-4
"""Stages that are below this share of the latency in every run have no column."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first column names a row. Without headings: facts and their values."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences, and a table."""

    heading: str
    sentences: tuple[str, ...] = ()
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A report without its charts, which come after `opening`: the findings and the caveats."""

    title: str
    opening: tuple[Section, ...]
    details: tuple[Section, ...]


def report_of(runs: Sequence[SavedRun]) -> Report:
    """The words and numbers of a report."""
    runs = in_order(runs)
    systems = ", ".join(dict.fromkeys(run.system for run in runs))
    labels = run_labels(runs)
    own = [(run, label) for run, label in zip(runs, labels, strict=True) if not run.is_of_server]
    explained = _explained(runs)
    stages = _stages(labels, [explained.get(run.folder) for run in runs])
    return Report(
        title=f"{counted(len(runs), 'run')} of {systems}",
        opening=(
            Section("Findings", tuple(findings(runs, explained))),
            Section("Caveats", tuple(_caveats(runs, labels)) or ("Every run is complete and valid.",)),
        ),
        details=(
            Section("Results", (_LEGEND,), _results(runs, labels)),
            *([Section("Mean end-to-end latency by stage", (_STAGES,), stages)] if own else []),
            *_spikes(runs, labels),
            *([Section("KV pool", (_PARTS,), _memory(own))] if own else []),
            Section("Setup", table=_setup(runs)),
            Section("Provenance", table=_provenance(runs)),
        ),
    )


_LEGEND = (
    "s/token: normalized latency (end-to-end latency / output length), from the scheduled arrival; req/s, "
    "tok/s: over the whole run, with drain; steady: over the second half of the time of arrivals, without "
    "start and drain, if the run has such a part; mean batch size: requests per iteration, mean over "
    "iterations; % of KV: mean over time; recompute, swap: preemptions."
)
_STAGES = "Seconds, and the share of the mean latency; `pagedbench explain` divides the stages further."
_SPIKES = (
    "From the start of the spike until the system had recovered: the p95 of the time to first token over "
    "the last 10 s of arrivals was at most 1.5 times that before the spike, and stayed so (-: never)."
)
_PARTS = "Percent of the pool, averaged over time."


def _explained(runs: Sequence[SavedRun]) -> dict[Path, Attribution]:
    """Folder -> attribution, for ended runs with a completed request and the necessary columns."""
    found: dict[Path, Attribution] = {}
    for run in runs:
        with suppress(ConfigError):
            found |= {run.folder: attribution_of(run)} if run.is_complete else {}
    return found


def _setup(runs: Sequence[SavedRun]) -> Table:
    """Facts and their values; several values if runs differ."""
    facts: dict[str, Callable[[SavedRun], object]] = {
        "Model": lambda run: (
            f"{_plan(run)['model']}, weights {_plan(run)['weights']}, {_plan(run)['dtype']}"
        ),
        "Server": lambda run: _plan(run)["device_name"] if run.is_of_server else None,
        "Device": lambda run: (
            None if run.is_of_server else f"{_plan(run)['device_name']}; kernels {_plan(run)['kernels']}"
        ),
        "Step times": lambda run: _plan(run)["cost_model"],
        "KV pool": lambda run: (
            None
            if run.is_of_server
            else f"{gibibytes(_plan(run)['kv_bytes'])}, {_plan(run)['kv_blocks']:,} blocks, "
            f"{_plan(run)['kv_slots']:,} tokens"
        ),
        "Trace": lambda run: f"{_trace(run)['name']}: {_trace(run)['source']}",
        "Arrivals": lambda run: _trace(run)["arrival"],
        "Seed": lambda run: run.config["seed"],
    }
    rows = [(name, _distinct([fact(run) for run in runs])) for name, fact in facts.items()]
    lengths = [
        f"{kind} {_range([_trace(run)[f'mean_{kind}_len'] for run in runs])}"
        for kind in ("prompt", "output")
    ]
    rows.append(("Mean lengths", f"{', '.join(lengths)} tokens"))
    requests = _range([run.values["num_requests"] for run in runs])
    rows.append(("Requests", requests))
    return Table(("", ""), tuple((name, text) for name, text in rows if text))


def _distinct(values: Sequence[object]) -> str:
    """Each value once; None is left out."""
    return "; ".join(dict.fromkeys(str(value) for value in values if value is not None))


def _range(values: Sequence[float]) -> str:
    """One number, or the smallest and the largest."""
    least, most = number(min(values)), number(max(values))
    return least if least == most else f"{least} to {most}"


def _plan(run: SavedRun) -> dict[str, Any]:
    plan: dict[str, Any] = run.manifest["plan"]
    return plan


def _trace(run: SavedRun) -> dict[str, Any]:
    trace: dict[str, Any] = run.manifest["trace"]
    return trace


def _caveats(runs: Sequence[SavedRun], labels: Sequence[str]) -> list[str]:
    """Warnings against wrong conclusions."""
    sentences = [
        f"{label} was made while this machine was busy with other programs: its times say little."
        for run, label in zip(runs, labels, strict=True)
        if run.is_busy
    ]
    for run, label in zip(runs, labels, strict=True):
        if not run.is_complete:
            sentences.append(f"{label} was {run.status}: its figures cover only a part of the run.")
        elif not run.manifest["valid"]:
            sentences.append(f"{label} is not valid: {'; '.join(run.manifest['invalid_because'])}.")
    overloaded = [label for run, label in zip(runs, labels, strict=True) if run.values["overloaded"]]
    if overloaded:
        sentences.append(
            f"Overloaded: {'; '.join(overloaded)}. Their latencies grow with the length of the run."
        )
    if any(_plan(run)["cost_model"] for run in runs):
        sentences.append("Simulated runs: step times are those of a cost model, not of this machine.")
    return sentences + bandwidth_sentences(run.bandwidths for run in runs)


def _results(runs: Sequence[SavedRun], labels: Sequence[str]) -> Table:
    headings, columns = [], []
    for name, heading in COLUMNS.items():
        values = [run.values.get(name) for run in runs]
        if name.endswith("_ms") and max((value or 0.0 for value in values), default=0.0) >= LONGEST_MS:
            heading = heading.removesuffix("ms") + "s"
            values = [None if value is None else value / 1000 for value in values]
        headings.append(heading)
        columns.append([number(value) for value in values])
    rows = zip(labels, *columns, map(_state, runs), strict=True)
    return Table(("run", *headings, "state"), tuple(rows))


def _stages(labels: Sequence[str], explained: Sequence[Attribution | None]) -> Table:
    """One row per run, one column per stage that matters in any of them."""
    known = [found for found in explained if found]
    names = known[0].stages if known else {}
    shown = [
        name
        for name in names
        if any(abs(found.stages[name]) > SMALLEST_SHARE * found.mean_latency for found in known)
    ]
    rows = []
    for label, found in zip(labels, explained, strict=True):
        cells = ["-"] * (1 + len(shown))
        if found:
            stages, total = found.stages, found.mean_latency
            parts = (f"{number(stages[name])} ({100 * stages[name] / total:.0f} %)" for name in shown)
            cells = [number(total), *parts]
        rows.append((label, *cells))
    return Table(("run", "mean latency", *shown), tuple(rows))


SPIKE_COLUMNS = {
    "spike_ttft_before_ms": "TTFT p95 before, ms",
    "spike_ttft_peak_ms": "at its peak, ms",
    "spike_recovery_s": "recovered after, s",
    "spike_waiting_max": "peak queue",
    "spike_kv_peak_pct": "peak tokens, % of KV",
    "spike_preemptions": "preempted",
}


def _spikes(runs: Sequence[SavedRun], labels: Sequence[str]) -> list[Section]:
    """The effects of spikes of the arrival rate, if there were any."""
    rows = [
        (label, *(number(run.values.get(name)) for name in SPIKE_COLUMNS))
        for run, label in zip(runs, labels, strict=True)
        if run.values.get("spike_waiting_max") is not None
    ]
    table = Table(("run", *SPIKE_COLUMNS.values()), tuple(rows))
    return [Section("Spike", (_SPIKES,), table)] if rows else []


def _memory(own: Sequence[tuple[SavedRun, str]]) -> Table:
    rows = []
    for run, label in own:
        values = [run.values.get(f"kv_{part}_pct") for part in PARTS]
        rows.append((label, *("-" if value is None else f"{value:.1f}" for value in values)))
    return Table(("run", *(title.lower() for title, _ in PARTS.values())), tuple(rows))


def _state(run: SavedRun) -> str:
    """One word: the most serious reason not to compare the run, if there is one."""
    if not run.is_complete:
        return run.status
    if not run.manifest["valid"]:
        return "invalid"
    return "busy" if run.is_busy else "overloaded" if run.values["overloaded"] else "valid"


def _provenance(runs: Sequence[SavedRun]) -> Table:
    started = [str(run.manifest["started"]) for run in runs]
    span = min(started) if len(set(started)) == 1 else f"{min(started)} to {max(started)}"
    machines = [run.manifest["machine"] for run in runs]
    rows = [
        ("Started", span),
        ("Commit", _distinct([run.manifest["git_commit"] for run in runs])),
        *(("Command", text) for text in dict.fromkeys(str(run.manifest["command"]) for run in runs)),
        ("Versions", _distinct([_versions(run) for run in runs])),
        ("Machine", _distinct([f"{item['cpu']}, {item['usable_cores']} cores" for item in machines])),
        ("System", _distinct([item["os"] for item in machines])),
    ]
    return Table(("", ""), tuple((name, text) for name, text in rows if text))


def _versions(run: SavedRun) -> str:
    return ", ".join(f"{name} {version}" for name, version in run.manifest["versions"].items())
