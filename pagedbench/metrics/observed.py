"""Served, Observed: what several formulas need; Statistic: the mean, max or percentile of a latency."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.metrics.percentiles import percentile
from pagedbench.metrics.spike import spike_effect
from pagedbench.metrics.steady import full_batch_part, steady_part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.metrics.latency import Latencies
    from pagedbench.metrics.records import RunRecord
    from pagedbench.metrics.slo import Slo
    from pagedbench.metrics.spike import SpikeEffect
    from pagedbench.metrics.steady import SteadyPart
    from pagedbench.workload.processes import Spike


class Served:
    """The times of requests that one engine or several served, with derived quantities computed once."""

    def __init__(
        self, latencies: Latencies, num_arrived: int, first_arrival: float, slo: Slo | None = None
    ) -> None:
        self.latencies = latencies
        self.num_arrived = num_arrived
        self.first_arrival = first_arrival
        self.slo = slo

    @property
    def num_completed(self) -> int:
        return int(np.count_nonzero(self.latencies.is_completed))

    @cached_property
    def duration(self) -> float | None:
        """Seconds from the first arrival to the last completion."""
        if not self.num_completed:
            return None
        duration = float(np.nanmax(self.latencies.finish)) - self.first_arrival
        return duration if duration > 0 else None

    @cached_property
    def num_good(self) -> int | None:
        """Requests that meet every bound; None without bounds, or where bounded times are not known."""
        if self.slo is None or not self.slo.is_known(self.latencies):
            return None
        return int(np.count_nonzero(self.slo.is_met(self.latencies)))

    @property
    def num_prompt_tokens(self) -> int:
        """Prompt tokens of completed requests, counted once for all sequences of a request."""
        return int(self.latencies.prompt_len[self.latencies.is_completed].sum())

    @property
    def num_output_tokens(self) -> int:
        """Output tokens of all sequences of completed requests."""
        table = self.latencies
        return int((table.output_len * table.num_sequences)[table.is_completed].sum())

    def samples(self, column: str) -> NDArray[np.float64]:
        """All observations of a column of `Latencies`, in seconds; for `itl` all gaps.  # [n]"""
        values: NDArray[np.float64] = getattr(self.latencies, column)
        is_known = np.isfinite(values)
        return values if is_known.all() else values[is_known]

    def per_second(self, count: int | None) -> float | None:
        """A count over the duration."""
        return None if count is None or self.duration is None else count / self.duration


class Observed(Served):
    """One engine's record, its SLO and the spike of its trace, with derived quantities computed once."""

    def __init__(self, record: RunRecord, slo: Slo | None = None, spike: Spike | None = None) -> None:
        super().__init__(record.latencies, record.num_arrived, record.first_arrival, slo)
        self.record = record
        self.spike = spike

    @cached_property
    def steady(self) -> SteadyPart | None:
        """The part without the start and the drain, if there is one."""
        return steady_part(self.record)

    @cached_property
    def window(self) -> SteadyPart | None:
        """The longest part with a full batch, if there is one."""
        return full_batch_part(self.record)

    @cached_property
    def spike_effect(self) -> SpikeEffect | None:
        """What the spike did; None without one."""
        return None if self.spike is None else spike_effect(self.record, self.spike)


@dataclass(frozen=True, slots=True)
class Statistic:
    """The mean, the max or a percentile of a latency."""

    column: str  # of Latencies
    kind: str  # "mean", "max", or such as "p99"
    scale: float  # 1000 for milliseconds

    @property
    def percent(self) -> float | None:
        return float(self.kind[1:]) if self.kind.startswith("p") else None

    def __call__(self, run: Served) -> float | None:
        samples = run.samples(self.column)
        if not len(samples):
            return None
        if self.percent is not None:  # interpolated linearly
            return self.scale * percentile(samples, self.percent)
        return self.scale * float(samples.mean() if self.kind == "mean" else samples.max())
