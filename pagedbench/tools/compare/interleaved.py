"""Interleaved runs of several sides: their order, and what confirms a regression that they let suspect."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import counted
from pagedbench.tools.compare.gate import Gate
from pagedbench.tools.compare.verdicts import Basis

if TYPE_CHECKING:
    from pagedbench.tools.compare.comparison import Comparison
    from pagedbench.tools.compare.gate import GateResult
    from pagedbench.tools.compare.verdicts import Finding


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of a round. `side` and `workload` count from 0, `repeat` from 1."""

    side: int
    workload: int
    repeat: int


def turns_of(num_sides: int, num_workloads: int, repeats: int) -> list[Turn]:
    """The runs of a round in their order: workload by workload, and of each A B B A A B and so on.

    The runs of a repeat stand side by side, and every other repeat goes back: a machine that grows slower
    or faster by and by does so to all sides alike.
    """
    return [
        Turn(side, workload, repeat)
        for workload in range(num_workloads)
        for repeat in range(1, repeats + 1)
        for side in (range(num_sides) if repeat % 2 else reversed(range(num_sides)))
    ]


def is_suspicion(comparison: Comparison) -> bool:
    """Did the gate fail, and on nothing but noisy figures? What is exact needs no second look."""
    failures = comparison.failures
    return bool(failures) and all(result.finding.basis is not Basis.EXACT for result in failures)


def narrowed(gate: Gate, comparison: Comparison) -> Gate:
    """The gate for the fresh runs: the metrics that are under suspicion, and no others."""
    suspected = {result.finding.metric.name for result in comparison.failures}
    return Gate(
        tuple(name for name in gate.metrics if name in suspected), gate.threshold, gate.takes_single_pairs
    )


def concluded(first: Comparison, fresh: Comparison) -> Comparison:
    """The comparison of the fresh runs, with a remark on each suspicion: what both rounds measured.

    The fresh runs are judged alone. The first round is why there is a second one: it was chosen for
    looking bad, and its pairs, added to the fresh ones, would pull the mean towards the alarm that is in
    question. Testing after five pairs and again after all ten is optional stopping, and raises false
    alarms above the level that is promised; two rounds that must both fail lower them instead.
    """
    remarks = [_remark(result, fresh) for result in first.failures]
    return replace(fresh, remarks=(*remarks, *fresh.remarks))


def _remark(suspicion: GateResult, fresh: Comparison) -> str:
    finding = suspicion.finding
    key = _key(finding)
    again = next((item for item in fresh.findings if _key(item) == key), None)
    is_confirmed = any(_key(result.finding) == key for result in fresh.failures)
    name = f"{finding.metric.name} ({finding.group})" if finding.group else finding.metric.name
    verdict = "confirmed" if is_confirmed else "suspected, not confirmed"
    return (
        f"{finding.candidate}: {verdict}: {name} was {_estimate(finding)} in the first "
        f"{_pairs(finding)}, and {_estimate(again)} in as many fresh ones."
    )


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.candidate, finding.group, finding.metric.name


def _pairs(finding: Finding) -> str:
    count = 0 if finding.effect is None else finding.effect.count
    return counted(count, "pair") if count > 1 else "pair"


def _estimate(finding: Finding | None) -> str:
    if finding is None or finding.effect is None:
        return "not defined"
    return f"{100 * abs(finding.harm):.3g} % {'worse' if finding.harm > 0 else 'better'}"
