"""The contents of a report on saved runs: what ran, what came out, what to mind, where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pagedbench.runs.numbers import counted, gibibytes, number
from pagedbench.show.curves import run_labels
from pagedbench.show.remarks import bandwidth_sentences
from pagedbench.show.styles import order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pagedbench.runs.saved import SavedRun

FIGURES = {
    "normalized_latency_mean_s": "mean s/token",
    "normalized_latency_p90_s": "p90 s/token",
    "ttft_p50_ms": "TTFT p50 ms",
    "ttft_p99_ms": "TTFT p99 ms",
    "tpot_p50_ms": "TPOT p50 ms",
    "request_throughput": "req/s",
    "steady_request_throughput": "steady req/s",
    "output_throughput": "output tok/s",
    "running_mean": "running",
    "kv_token_states_pct": "tokens % of KV",
    "preemptions_recompute": "recomputed",
    "preemptions_swap": "swapped",
}
"""Columns of the table of results, and their headings."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first column names a row."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences, and a table."""

    heading: str
    sentences: tuple[str, ...] = ()
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """A report without its figures."""

    title: str
    sections: tuple[Section, ...]


def story_of(runs: Sequence[SavedRun]) -> Story:
    """Everything that a report says in words and numbers."""
    runs = sorted(runs, key=lambda run: (order_of(run.system), run.rate or 0.0))
    systems = ", ".join(dict.fromkeys(run.system for run in runs))
    return Story(
        title=f"{counted(len(runs), 'run')} of {systems}",
        sections=(
            Section("What ran", table=_setup(runs)),
            Section("To mind", sentences=tuple(_remarks(runs)) or ("Every run is complete and valid.",)),
            Section("Results", sentences=(_LEGEND,), table=_results(runs)),
            Section("KV pool", sentences=(_PARTS,), table=_memory(runs)),
            Section("Where it comes from", table=_provenance(runs)),
        ),
    )


_LEGEND = (
    "s/token: normalized latency, end-to-end latency over output length, from the scheduled arrival; "
    "req/s, tok/s: the whole run, with drain; steady: the second half of the arrivals' time, without start "
    "and drain, where the run has such a part; running: requests in an iteration, mean over iterations; "
    "% of KV: mean over time."
)
_PARTS = "Percent of the pool, averaged over time."


def _setup(runs: Sequence[SavedRun]) -> Table:
    """Facts and their values; several where runs differ."""
    facts: dict[str, Callable[[SavedRun], object]] = {
        "Model": lambda run: (
            f"{_plan(run)['model']}, weights {_plan(run)['weights']}, {_plan(run)['dtype']}"
        ),
        "Device": lambda run: f"{_plan(run)['device_name']}; kernels {_plan(run)['kernels']}",
        "Step times": lambda run: _plan(run)["cost_model"],
        "KV pool": lambda run: (
            f"{gibibytes(_plan(run)['kv_bytes'])}, {_plan(run)['kv_blocks']:,} blocks, "
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
    """Each value once; a value without a meaning is left out."""
    return "; ".join(dict.fromkeys(str(value) for value in values if value is not None))


def _range(values: Sequence[float]) -> str:
    """One number, or the least and the most."""
    least, most = number(min(values)), number(max(values))
    return least if least == most else f"{least} to {most}"


def _plan(run: SavedRun) -> dict[str, Any]:
    plan: dict[str, Any] = run.manifest["plan"]
    return plan


def _trace(run: SavedRun) -> dict[str, Any]:
    trace: dict[str, Any] = run.manifest["trace"]
    return trace


def _remarks(runs: Sequence[SavedRun]) -> list[str]:
    """What keeps a reader from the wrong conclusion."""
    sentences = [
        f"{label} was made while this machine was busy with other programs: its times say little."
        for run, label in zip(runs, run_labels(runs), strict=True)
        if run.is_busy
    ]
    for run, label in zip(runs, run_labels(runs), strict=True):
        if not run.is_complete:
            sentences.append(f"{label} was {run.status}: its figures are of a part of the run.")
        elif not run.manifest["valid"]:
            sentences.append(f"{label} is not valid: {'; '.join(run.manifest['invalid_because'])}.")
    overloaded = [
        label for run, label in zip(runs, run_labels(runs), strict=True) if run.values["overloaded"]
    ]
    if overloaded:
        sentences.append(
            f"Overloaded: {'; '.join(overloaded)}. Their latencies grow with the length of the run."
        )
    if any(_plan(run)["cost_model"] for run in runs):
        sentences.append("Simulated runs: step times are those of a cost model, not of this machine.")
    return sentences + bandwidth_sentences(run.bandwidths for run in runs)


def _results(runs: Sequence[SavedRun]) -> Table:
    rows = []
    for run, label in zip(runs, run_labels(runs), strict=True):
        figures = (number(run.values.get(name)) for name in FIGURES)
        rows.append((label, *figures, _state(run)))
    return Table(("run", *FIGURES.values(), "state"), tuple(rows))


def _memory(runs: Sequence[SavedRun]) -> Table:
    parts = ("token_states", "reserved", "internal", "external", "free")
    rows = []
    for run, label in zip(runs, run_labels(runs), strict=True):
        values = [run.values.get(f"kv_{part}_pct") for part in parts]
        rows.append((label, *("-" if value is None else f"{value:.1f}" for value in values)))
    return Table(("run", *(part.replace("_", " ") for part in parts)), tuple(rows))


def _state(run: SavedRun) -> str:
    if not run.is_complete:
        return run.status
    verdict = "invalid" if not run.manifest["valid"] else "busy" if run.is_busy else "valid"
    return f"overloaded, {verdict}" if run.values["overloaded"] else verdict


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
