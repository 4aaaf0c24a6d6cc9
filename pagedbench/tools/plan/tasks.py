"""Tasks for processes: a search, a fleet, or some independent replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pagedbench.runs.parallel import Failure
from pagedbench.runs.workers import in_workers
from pagedbench.tools.plan.rows import fleet_row
from pagedbench.tools.plan.simulation import joined, serve_share, shares, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Items

    from pagedbench.plan import Plan
    from pagedbench.runs.criterion import Criterion
    from pagedbench.runs.parallel import Stop
    from pagedbench.runs.workers import Workers
    from pagedbench.tools.plan.fleet_record import ReplicaRecord
    from pagedbench.tools.plan.simulation import Setup, Share

    Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One fleet to plan or to simulate, for one seed.

    Attributes:
        sizes: the numbers of replicas (or of units of a ratio) to simulate; None: the smallest is searched
            for, from `least` to `most`.
        criterion: the objective; None: there is none, and `sizes` are given.
    """

    setup: Setup
    criterion: Criterion | None
    sizes: tuple[int, ...] | None
    least: int = 1
    most: int = 1

    @property
    def name(self) -> str:
        config = self.setup.plan.config
        ranks = config.tensor_parallel_size or 1
        words = [config.device.removeprefix("sim:") + (f" x{ranks}" if ranks > 1 else "")]
        words += [config.trace.rpartition("/")[2], self.setup.router]
        words += [f"stale {self.setup.staleness:g} s"] if self.setup.staleness else []
        words += [f"apart {self.setup.ratio}"] if self.setup.ratio else []
        return " ".join([*words, f"s{config.seed}"])


@dataclass(frozen=True, slots=True)
class _Part:
    """Some replicas of a fleet whose replicas are independent of each other."""

    case: int
    size: int
    plan: Plan
    criterion: Criterion | None
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class _Whole:
    """A search, or fleets whose replicas are all simulated by one process."""

    case: int
    content: Case


def outcomes(cases: Items[Case], workers: Workers, stop: Stop) -> Iterator[tuple[int, list[Row] | Failure]]:
    """The number and rows of every case, in the order in which cases end; one row per simulated fleet."""
    tasks = [task for number, case in enumerate(cases) for task in _tasks(number, case, workers.jobs)]
    left = [sum(task.case == number for task in tasks) for number in range(len(cases))]
    records: dict[tuple[int, int], list[ReplicaRecord]] = {}
    rows: dict[int, list[Row]] = {number: [] for number in range(len(cases))}
    failed: set[int] = set()
    for task, outcome in in_workers(_work, tasks, workers, stop):
        number = task.case
        left[number] -= 1
        if isinstance(outcome, Failure):
            if number not in failed:
                yield number, outcome
            failed.add(number)
        elif isinstance(task, _Part):
            records.setdefault((number, task.size), []).extend(outcome or ())
        else:
            rows[number] += outcome or ()
        if not left[number] and number not in failed and not stop.is_set():
            sizes = sorted(size for case, size in records if case == number)
            case = cases[number]
            found = [(size, joined(records.pop((number, size)))) for size in sizes]
            rows[number] += [fleet_row(case.setup, size, fleet, case.criterion) for size, fleet in found]
            yield number, rows[number]


def _tasks(number: int, case: Case, jobs: int | None) -> list[_Part | _Whole]:
    """The tasks of a case: if it can be divided, as many as run at a time (None: one per replica)."""
    if case.sizes is None or not case.setup.is_divisible:
        return [_Whole(number, case)]
    parts: list[_Part | _Whole] = []
    for size in case.sizes:
        every, step = shares(case.setup, size), min(jobs or size, size)
        parts += [
            _Part(number, size, case.setup.plan, case.criterion, tuple(every[first::step]))
            for first in range(step)
        ]
    return parts


def _work(task: _Part | _Whole, stop: Stop) -> Any:
    """Do a task in a process: ReplicaRecords of a part, or rows of a whole; None if it was stopped."""
    if isinstance(task, _Part):
        found = [
            serve_share(task.plan, share, task.criterion, stop)
            for share in task.shares
            if not stop.is_set()
        ]
        return None if stop.is_set() else found
    case = task.content
    if case.sizes is None:
        return _search(case, stop)
    rows = []
    for size in case.sizes:
        fleet = simulate(case.setup, size, case.criterion, stop)
        if stop.is_set():
            return None
        rows.append(fleet_row(case.setup, size, fleet, case.criterion))
    return rows


def _search(case: Case, stop: Stop) -> list[Row] | None:
    """All tried fleets by size: doubling, then bisection, until the next smaller one is known to miss."""
    rows: dict[int, Row] = {}

    def is_met(size: int) -> bool:
        fleet = simulate(case.setup, size, case.criterion, stop, ends_early=True)
        rows[size] = fleet_row(case.setup, size, fleet, case.criterion)
        return bool(rows[size]["is_met"])

    missed, size = case.least - 1, case.least
    while not is_met(size):
        if stop.is_set():
            return None
        if size == case.most:
            return [rows[size] for size in sorted(rows)]
        missed, size = size, min(2 * size, case.most)
    while size - missed > 1 and not stop.is_set():
        middle = (missed + size) // 2
        if is_met(middle):
            size = middle
        else:
            missed = middle
    return None if stop.is_set() else [rows[size] for size in sorted(rows)]
