"""Times the cases of ops: first checked, with interleaved variants, compared with the machine's limits."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from pagedbench.runs.memory_bandwidth import NOISE
from pagedbench.tools.kernels.cases import TORCH, Form, WrongOutput
from pagedbench.tools.kernels.plan import AS_COMPUTED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pagedbench.runs.stopwatch import Stopwatch
    from pagedbench.tools.kernels.cases import Case, Setup, Variant
    from pagedbench.tools.kernels.machine_limits import Bound, LimitProbe, MachineLimits
    from pagedbench.tools.kernels.plan import Planned

    Samples = Sequence[Sequence[float]]
    """Seconds per call, [variant][round]."""

CASE_TIME = 8.0
"""A case whose samples have taken this many seconds gets no more rounds than `MIN_ROUNDS`."""

MIN_ROUNDS = 3

MAX_TRIES = 3
"""How often a disturbed case is timed."""

MAX_SPREAD = 3.0
"""The largest undisturbed median / minimum of a variant's rounds; 1.5 occurs when nothing else runs."""

MAX_SHARE = 100 * NOISE
"""The largest undisturbed percentage of the limit; above it, one of the two measurements was disturbed."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One variant of one case. Its fields are the columns of kernels.csv.

    None: not measured, or without meaning.

    Attributes:
        kv_dtype: of keys and values in the pool, if it is not `dtype`.
        bytes, flops: the least data that must pass between memory and processor, and the least computation.
            What a model has just computed is still in a cache, and is not counted.
        limit_gb_per_s, limit_gflop_per_s: the machine's limits, measured together with the case.
        bound: which of the two limits binds.
        share_pct: the least time according to the limits / the median time, in percent.
        over_contiguous: for paged, its time / the contiguous time, median of the rounds.
        over_torch: the same relative to plain PyTorch; below 1 is faster.
        max_error: compared with the definition in float64.
        disturbed: why the times cannot be trusted; if so, there are no shares and ratios of them.
    """

    op: str
    kernels: str
    form: Form
    dtype: str
    kv_dtype: str | None
    batch: int
    context: int
    block_size: int | None
    shape: str
    time_median_us: float
    time_min_us: float
    rounds: int
    calls_per_round: int
    bytes: int
    gb_per_s: float
    flops: int
    gflop_per_s: float
    limit_gb_per_s: float | None
    limit_gflop_per_s: float | None
    bound: Bound | None
    share_pct: float | None
    over_contiguous: float | None
    over_torch: float | None
    max_error: float
    disturbed: str | None


COLUMNS = tuple(item.name for item in fields(Measurement))


class KernelBench:
    """Measures cases one after another.

    First, every variant's output is checked. Then, in each round, one sample of every variant is taken:
    what slows the machine for a while slows all of them, and ratios are taken within a round.
    """

    def __init__(
        self, setup: Setup, probe: LimitProbe, stopwatch: Stopwatch, *, rounds: int, sample_time: float
    ) -> None:
        self._setup = setup
        self._probe = probe
        self._stopwatch = stopwatch
        self._rounds = rounds
        self._sample_time = sample_time

    def measure(self, planned: Planned) -> list[Measurement]:
        """Build the case, check it, time it; repeat it if it was disturbed, and keep the best try.

        Raises:
            WrongOutput: an output differs from the reference's.
        """
        case = planned.build(self._setup)
        errors = [_error_of(case, variant) for variant in case.variants]
        tries: list[list[Measurement]] = []
        for _ in range(MAX_TRIES):
            before = self._probe.measure()
            samples, calls = self._samples(case)
            limits = before.or_more(self._probe.measure())
            rows = [
                self._row(case, number, samples, calls[number], limits, error, planned.kv_dtype)
                for number, error in enumerate(errors)
            ]
            if not _num_disturbed(rows):
                return rows
            tries.append(rows)
        return min(tries, key=_num_disturbed)

    def _samples(self, case: Case) -> tuple[Samples, list[int]]:
        """The samples, and the number of calls per sample of each variant."""
        number = 0  # of the call, over all variants: none reuses what the previous one has just read

        def sample(variant: Variant, num_calls: int) -> float:
            nonlocal number
            calls = range(number, number + num_calls)
            number = calls.stop
            return self._stopwatch.seconds(variant.run, calls, case.num_sets) / num_calls

        for variant in case.variants:
            sample(variant, 1)  # warm-up: threads, allocations, tuned kernels
        single = [sample(variant, 1) for variant in case.variants]
        calls = [max(round(self._sample_time / max(time, 1e-7)), 1) for time in single]
        round_time = sum(time * count for time, count in zip(single, calls, strict=True))
        affordable = max(int(CASE_TIME / max(round_time, 1e-7)), MIN_ROUNDS)
        found: list[list[float]] = [[] for _ in case.variants]
        for _ in range(min(self._rounds, affordable)):
            for times, variant, count in zip(found, case.variants, calls, strict=True):
                times.append(sample(variant, count))
        return found, calls

    def _row(
        self,
        case: Case,
        number: int,
        samples: Samples,
        calls: int,
        limits: MachineLimits,
        error: float,
        kv_dtype: str,
    ) -> Measurement:
        variant, times = case.variants[number], samples[number]
        dtype = str(self._setup.dtype).removeprefix("torch.")
        seconds = statistics.median(times)
        least = limits.least_time(case.work, dtype) if variant.is_whole else None
        peak = limits.peak(dtype)
        share = 100 * least[0] / seconds if least else None
        disturbed = _disturbance(seconds / min(times), share)

        def over(is_reference: Callable[[Variant], bool]) -> float | None:
            pairs = zip(case.variants, samples, strict=True)
            others = next((other for item, other in pairs if is_reference(item)), ())
            return None if disturbed else _ratio(times, others)

        return Measurement(
            op=case.op,
            kernels=variant.kernels,
            form=variant.form,
            dtype=dtype,
            kv_dtype=None if kv_dtype == AS_COMPUTED else kv_dtype,
            batch=case.batch,
            context=case.context,
            block_size=variant.block_size,
            shape=case.shape,
            time_median_us=1e6 * seconds,
            time_min_us=1e6 * min(times),
            rounds=len(times),
            calls_per_round=calls,
            bytes=case.work.num_bytes,
            gb_per_s=case.work.num_bytes / seconds / 1e9,
            flops=case.work.flops,
            gflop_per_s=case.work.flops / seconds / 1e9,
            limit_gb_per_s=None if limits.read_bandwidth is None else limits.read_bandwidth / 1e9,
            limit_gflop_per_s=None if peak is None else peak / 1e9,
            bound=least[1] if least else None,
            share_pct=None if disturbed else share,
            over_contiguous=over(lambda other: _is_contiguous_of(variant, other)),
            over_torch=over(lambda other: _is_torch_of(variant, other)),
            max_error=error,
            disturbed=disturbed,
        )


def _error_of(case: Case, variant: Variant) -> float:
    found = case.check(variant)
    if not found.is_met:
        raise WrongOutput(
            f"{case.op} by {variant.name} is wrong at batch {case.batch}, context {case.context}: an "
            f"error is {found.share:.3g} times as large as rounding explains; nothing was timed"
        )
    return found.max_error


def _disturbance(spread: float, share: float | None) -> str | None:
    """What shows a disturbance. `spread`: median / minimum; `share`: percent of the limit."""
    if spread > MAX_SPREAD:
        return f"the median is {spread:.3g} times the minimum"
    if share is not None and share > MAX_SHARE:
        return f"{share:.0f} % of the limit"
    return None


def _num_disturbed(rows: Sequence[Measurement]) -> int:
    return sum(row.disturbed is not None for row in rows)


def _is_contiguous_of(paged: Variant, other: Variant) -> bool:
    """Does the other variant use the same kernels over extents?"""
    return (paged.form, other.form, other.kernels) == (Form.PAGED, Form.CONTIGUOUS, paged.kernels)


def _is_torch_of(variant: Variant, other: Variant) -> bool:
    """Is the other variant plain PyTorch, over the same blocks if it has any?"""
    is_alike = other.block_size in (None, variant.block_size)
    return variant.kernels != TORCH and other.kernels == TORCH and is_alike


def _ratio(times: Sequence[float], others: Sequence[float]) -> float | None:
    """The median of the ratios within a round; None if there is nothing undisturbed to compare with."""
    if not others or statistics.median(others) > MAX_SPREAD * min(others):
        return None
    return statistics.median(one / other for one, other in zip(times, others, strict=True))
