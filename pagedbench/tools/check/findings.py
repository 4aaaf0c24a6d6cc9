"""Judging the cases of a check: as in the baseline, changed, or not comparable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pagedbench.metrics.formulas import METRICS
from pagedbench.runs.exit_codes import INTERRUPTED, NOT_COMPARABLE, REGRESSION
from pagedbench.show.judgement import Figure, Judgement, Outcome
from pagedbench.tools.check.sentences import explain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagedbench.tools.check.footprint import Footprint

SUITE = "check"
UPDATE = "pagedbench check --update"


class CheckVerdict(StrEnum):
    """The verdict on all cases."""

    REGRESSION = "regression"
    INTERRUPTED = "interrupted"
    NOT_COMPARABLE = "not comparable"
    PASSED = "passed"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A check that has ended.

    Attributes:
        judgements: judgements of the cases that ran, of cases that only one side has, and of real runs.
        baseline: name of the baseline's file.
        origin: its version, commit and date, in words.
        num_asked: parts that were asked for: every case, and all real runs together.
        num_run: parts that were done; fewer after an interruption.
    """

    judgements: tuple[Judgement, ...]
    baseline: str
    origin: str
    num_asked: int
    num_run: int

    @property
    def is_interrupted(self) -> bool:
        return self.num_run < self.num_asked

    def of(self, outcome: Outcome) -> list[Judgement]:
        """The judgements with this outcome."""
        return [judgement for judgement in self.judgements if judgement.outcome is outcome]

    @property
    def verdict(self) -> CheckVerdict:
        if self.of(Outcome.FAILED):
            return CheckVerdict.REGRESSION
        if self.is_interrupted:
            return CheckVerdict.INTERRUPTED
        return CheckVerdict.NOT_COMPARABLE if self.of(Outcome.NOT_JUDGED) else CheckVerdict.PASSED

    @property
    def exit_code(self) -> int:
        if self.is_interrupted:
            return INTERRUPTED
        codes = {CheckVerdict.REGRESSION: REGRESSION, CheckVerdict.NOT_COMPARABLE: NOT_COMPARABLE}
        return codes.get(self.verdict, 0)


def judge_cases(
    before: Mapping[str, Footprint],
    after: Mapping[str, Footprint],
    *,
    left_out: frozenset[str] = frozenset(),
) -> list[Judgement]:
    """One judgement for each case, in the order of the matrix; then the cases that only the baseline has.

    Args:
        left_out: cases of the matrix that were not asked for.
    """
    judgements = [judge_case(name, before.get(name), footprint) for name, footprint in after.items()]
    for name in before:
        if name not in after and name not in left_out:
            message = f"{name} is in the baseline but no longer in the matrix; {UPDATE} removes it"
            judgements.append(_not_judged(name, message))
    return judgements


def judge_case(name: str, before: Footprint | None, after: Footprint) -> Judgement:
    """Compare a case with its baseline, if there is one."""
    if before is None:
        return _not_judged(name, f"{name} is not in the baseline; {UPDATE} adds it", figures(None, after))
    numbers = figures(before, after)
    if before.options != after.options:
        changes = _changed_options(before, after)
        return _not_judged(name, f"{name} is not the same case as in the baseline: {changes}", numbers)
    sentence = explain(before, after)
    if sentence is None:
        return Judgement(SUITE, name, Outcome.PASSED, f"{name} is as in the baseline", numbers)
    return Judgement(SUITE, name, Outcome.FAILED, f"{name}: {sentence}", numbers)


def figures(before: Footprint | None, after: Footprint) -> tuple[Figure, ...]:
    """The metrics of a footprint, before and after."""
    found = []
    for metric in METRICS:
        if metric.name in after.metrics:
            sides = ({} if side is None else side.metrics for side in (before, after))
            was, now = (_number(side.get(metric.name)) for side in sides)
            found.append(Figure(metric.name, metric.unit, metric.better, was, now))
    return tuple(found)


def _number(value: object) -> float | None:
    return value if isinstance(value, float | int) else None


def _changed_options(before: Footprint, after: Footprint) -> str:
    names = dict.fromkeys([*before.options, *after.options])
    return ", ".join(
        f"{name} {before.options.get(name, 'default')} -> {after.options.get(name, 'default')}"
        for name in names
        if before.options.get(name) != after.options.get(name)
    )


def _not_judged(name: str, message: str, numbers: tuple[Figure, ...] = ()) -> Judgement:
    return Judgement(SUITE, name, Outcome.NOT_JUDGED, message, numbers)
