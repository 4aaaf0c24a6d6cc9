"""Study: runs every entry with every seed, and sums up each entry in one row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pagedbench.metrics.statistics import Effect, paired_effect
from pagedbench.plan import with_pool
from pagedbench.pool import MAX_BLOCKS
from pagedbench.runs.cell import cells_of
from pagedbench.runs.completed import completed
from pagedbench.runs.parallel import Failure
from pagedbench.runs.result import IDENTITY_COLUMNS
from pagedbench.runs.saved import load_run
from pagedbench.tools.policies.entries import Bound, setting_of

if TYPE_CHECKING:
    from collections.abc import Sequence as Items
    from pathlib import Path

    from pagedbench.runs.cell import Cell
    from pagedbench.runs.jobs import Job
    from pagedbench.runs.options import CommandOptions
    from pagedbench.runs.result import RunStatus
    from pagedbench.runs.saved import SavedRun
    from pagedbench.tools.policies.entries import Entry

Row = dict[str, Any]

FIGURES = (
    "prefix_hit_pct", "recompute_tax", "output_throughput", "goodput", "ttft_p99_ms", "tpot_p99_ms",
    "itl_p99_ms", "preemptions_recompute", "preemptions_swap", "evicted_blocks",
)  # fmt: skip
"""Metrics of a row: means over the seeds."""

COMPARED = ("prefix_hit_pct", "recompute_tax", "output_throughput", "ttft_p99_ms", "tpot_p99_ms",
            "itl_p99_ms")  # fmt: skip
"""Metrics whose differences from the first entry are given, paired by seed."""

IN_POINTS = ("prefix_hit_pct", "recompute_tax")
"""Metrics whose differences are absolute, in percentage points; other differences are relative."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An entry with one seed. `entry`: its number in the table."""

    entry: int
    cell: Cell


@dataclass(slots=True)
class Study:
    """The trials of one command, and their saved runs."""

    entries: Items[Entry]
    trials: Items[Trial]
    runs: dict[str, SavedRun] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def find_done(self) -> None:
        """Look for runs that an earlier command completed; the others are run again.

        Raises:
            ConfigError: a run was made with other options, other requests or other step times.
        """
        found = {trial.cell.name: completed(trial.cell) for trial in self.trials}
        self.runs |= {name: run for name, run in found.items() if run is not None}

    @property
    def pending(self) -> list[Cell]:
        """Cells that have not been completed."""
        return [trial.cell for trial in self.trials if trial.cell.name not in self.runs]

    def take(self, cell: Cell, outcome: RunStatus | Failure) -> str:
        """Note that a cell has ended. Returns how, in a few words."""
        if isinstance(outcome, Failure):
            self.failures.append(f"{cell.name}: {outcome.reason}")
            return outcome.reason
        run = self.runs[cell.name] = load_run(cell.folder)
        return str(run.status)

    def rows(self) -> list[Row]:
        """One row per entry with runs, in order, with its distances from the bounds and the first entry."""
        rows = [row for index in range(len(self.entries)) if (row := self._row(index)) is not None]
        for row in rows:
            pool = [other for other in rows if other["setting"] == row["setting"]]
            row |= _distances(row, pool) | _changes(row, pool[0])
        return rows

    def _row(self, index: int) -> Row | None:
        names = [trial.cell.name for trial in self.trials if trial.entry == index]
        runs = {name: self.runs[name] for name in names if name in self.runs}
        if not runs:
            return None
        entry, (first, *_) = self.entries[index], runs.values()
        row: Row = {name: first.summary["run"].get(name) for name in IDENTITY_COLUMNS}
        row |= {"bound": entry.bound and entry.bound.value, "setting": setting_of(entry.config)}
        row["kv_slots"] = first.manifest["plan"]["kv_slots"]
        row["by_seed"] = {
            run.config["seed"]: {name: _percent(name, run.values[name]) for name in FIGURES}
            for run in runs.values()
        }
        row["num_runs"] = len(runs)
        row["valid"] = all(run.values["valid"] for run in runs.values())
        row["overloaded"] = any(run.values["overloaded"] for run in runs.values())
        return row | {name: _mean(row["by_seed"].values(), name) for name in FIGURES}


def trials_of(
    entries: Items[Entry], jobs: Items[tuple[int, Job]], folder: Path, options: CommandOptions
) -> list[Trial]:
    """A trial for every entry and seed; `jobs` are pairs of an entry's number and a job.

    Raises:
        ConfigError: two entries are the same.
    """
    made = [_unlimited(job) if entries[number].bound is Bound.POOL else job for number, job in jobs]
    cells = cells_of(made, folder, options)
    return [Trial(number, cell) for (number, _), cell in zip(jobs, cells, strict=True)]


def _unlimited(job: Job) -> Job:
    """The job with a pool that holds all requests at once, or as many as a pool may have."""
    size = job.plan.config.block_size
    slots = sum(
        request.sampling.width * (request.prompt_len + request.sampling.max_tokens + size)
        for request in job.trace.requests
    )
    slots = max(min(slots, size * MAX_BLOCKS // 2), job.plan.kv_slots + size)
    return replace(job, plan=with_pool(job.plan, slots, None))


def _percent(name: str, value: object) -> float | None:
    """Shares in percent, like the metrics with percent in their names."""
    if not isinstance(value, int | float):
        return None
    return 100 * value if name == "recompute_tax" else float(value)


def _mean(by_seed: Any, name: str) -> float | None:
    values = [figures[name] for figures in by_seed]
    return None if None in values else fmean(values)


def _distances(row: Row, pool: Items[Row]) -> Row:
    """How far the row is from each bound of its pool; None if there is no such bound or the row is one."""
    bounds = {other["bound"]: other for other in pool if other["bound"]}

    def less(name: str, bound: Bound) -> float | None:
        other = bounds.get(bound.value)
        if other is None or other is row or None in (row[name], other[name]):
            return None
        return float(row[name] - other[name])

    unlimited, own = bounds.get(Bound.POOL.value), row["output_throughput"]
    share = None
    if unlimited is not None and unlimited is not row and own and unlimited["output_throughput"]:
        share = 100 * own / unlimited["output_throughput"]
    below = less("prefix_hit_pct", Bound.EVICTION)
    return {
        "tax_above_oracle": less("recompute_tax", Bound.VICTIM),
        "hits_below_belady": None if below is None else -below,
        "throughput_of_unlimited_pct": share,
    }


def _changes(row: Row, first: Row) -> Row:
    """The paired differences from the first entry, by metric, with their 95 % intervals."""
    changes: Row = {}
    for name in COMPARED if row is not first else ():
        pairs = [
            (before[name], row["by_seed"][seed][name])
            for seed, before in first["by_seed"].items()
            if seed in row["by_seed"]
        ]
        if any(None in pair for pair in pairs):
            continue
        effect = _effect(name, pairs)
        if effect is not None:
            scale = 1.0 if name in IN_POINTS else 100.0
            low, high = effect.interval()
            ends = {"mean": effect.mean, "low": low, "high": high}
            changes |= {f"{name}_change_{end}": scale * effect.as_relative(x) for end, x in ends.items()}
    return changes


def _effect(name: str, pairs: Items[tuple[float, float]]) -> Effect | None:
    if name in IN_POINTS:
        return Effect(tuple(after - before for before, after in pairs), is_ratio=False)
    if not pairs or any(before <= 0 or after <= 0 for before, after in pairs):
        return None
    before, after = zip(*pairs, strict=True)
    return paired_effect(before, after)
