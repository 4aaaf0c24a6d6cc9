"""RateFigure: normalized latency over the request rate for several systems (Fig. 12, 14, 16, 17)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pagedbench.show.charts import Chart, Line, LinePanel
from pagedbench.show.styles import style_of
from pagedbench.tools.paper.claim import Claim
from pagedbench.tools.paper.curve import THRESHOLD, THRESHOLDS, measure_curve
from pagedbench.tools.paper.figure import Outcome, Piece
from pagedbench.tools.paper.lengths import SHAREGPT
from pagedbench.tools.paper.setup_facts import setup_facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagedbench.tools.paper.claim import Expectation
    from pagedbench.tools.paper.curve import Curve
    from pagedbench.tools.paper.experiment import Experiment
    from pagedbench.tools.paper.figure import Options, Row

Y_MAX = 1.0
"""Where the paper cuts its axis, in s/token."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What the paper says of paged's sustained rate over that of `system`."""

    system: str
    expected: Expectation
    why: str = ""


@dataclass(frozen=True, slots=True)
class Variant:
    """An assumption changed, for the systems of which a ratio is taken: shown, not judged.

    `other`: the set-up of the system that paged is compared with, if it is not the same.
    """

    words: str
    experiment: Experiment
    other: Experiment | None = None

    def of(self, system: str) -> Experiment:
        """The set-up of one of the two."""
        return self.experiment if system == "paged" or self.other is None else self.other


@dataclass(frozen=True, slots=True)
class RateFigure:
    """One panel.

    Attributes:
        starts: by system, the rate at which the search for its sustained rate begins.
        gains: claims about ratios; `variants`: their sensitivity, at the first seed.
    """

    name: str
    title: str
    experiment: Experiment
    starts: Mapping[str, float]
    gains: tuple[Gain, ...]
    variants: tuple[Variant, ...] = field(default=())
    note: str = ""

    @property
    def traces(self) -> tuple[str, ...]:
        mixed = [SHAREGPT for variant in self.variants if variant.experiment.new_share is not None]
        return tuple(dict.fromkeys([self.experiment.trace, *mixed]))

    def pieces(self, options: Options) -> Sequence[Piece]:
        pieces = [
            self._piece(
                f"{system} s{seed}", self.experiment, system, options, seed,
                THRESHOLDS if seed == options.seed else (THRESHOLD,),
            )
            for seed in options.seeds
            for system in self.starts
        ]  # fmt: skip
        return pieces + [
            self._piece(
                f"{system}, {variant.words}", variant.of(system), system, options, options.seed,
                (THRESHOLD,),
            )
            for variant in self.variants
            for system in self._compared
        ]  # fmt: skip

    def _piece(
        self, name: str, experiment: Experiment, system: str, options: Options, seed: int,
        thresholds: tuple[float, ...],
    ) -> Piece:  # fmt: skip
        own = replace(experiment, rate=self.starts[system], max_num_seqs=options.max_num_seqs)
        return Piece(name, measure_curve, (own, system, options.lengths, seed, thresholds))

    @property
    def _compared(self) -> tuple[str, ...]:
        """The systems of the claims."""
        return ("paged", *(gain.system for gain in self.gains))

    def outcome(self, options: Options, results: Mapping[str, Curve]) -> Outcome:
        curves = {
            (system, seed): results[f"{system} s{seed}"] for seed in options.seeds for system in self.starts
        }
        claims = [self._claim(gain, curves, options) for gain in self.gains]
        first = {system: curves[system, options.seed] for system in self.starts}
        facts = setup_facts(self.experiment, "paged", options)
        facts.append(
            "Sustained: the highest rate whose mean normalized latency over "
            f"{self.experiment.duration:g} s of arrivals is at most {THRESHOLD:g} s/token (the paper "
            f"states no bound); paged over others {self._by_threshold(first)}."
        )
        facts += [self._sensitivity(variant, results) for variant in self.variants]
        facts += [self.note] if self.note else []
        rows = _points(curves)
        tables = {"": rows, "-sustained": _sustained(curves)}
        ratios = {
            system: _mean_ratio(curves, system, options)[0] for system in self.starts if system != "paged"
        }
        return Outcome(tables, claims, self._chart(first), facts, ratios)

    def _claim(self, gain: Gain, curves: Mapping[tuple[str, int], Curve], options: Options) -> Claim:
        mean, ratios = _mean_ratio(curves, gain.system, options)
        spread = (min(ratios), max(ratios)) if len(ratios) > 1 else None
        subject = f"paged / {gain.system}"
        return Claim(self.name, subject, "sustained rate", "x", gain.expected, mean, gain.why, spread)

    def _by_threshold(self, curves: Mapping[str, Curve]) -> str:
        """Sensitivity to the bound."""
        parts = [
            f"{system} "
            + "/".join(f"{_ratio(curves['paged'], curves[system], bound):.2f}" for bound in THRESHOLDS)
            for system in curves
            if system != "paged"
        ]
        return f"at {'/'.join(f'{bound:g}' for bound in THRESHOLDS)} s/token: {', '.join(parts)}"

    def _sensitivity(self, variant: Variant, results: Mapping[str, Curve]) -> str:
        paged, *others = (results[f"{system}, {variant.words}"] for system in self._compared)
        ratios = [
            f"{gain.system} {_ratio(paged, other, THRESHOLD):.2f} x "
            f"({paged.sustained[THRESHOLD]:.3g}/{other.sustained[THRESHOLD]:.3g} requests/s)"
            for gain, other in zip(self.gains, others, strict=True)
        ]
        return f"With {variant.words}: paged / {', / '.join(ratios)}."

    def _chart(self, curves: Mapping[str, Curve]) -> Chart:
        lines = []
        for system, curve in curves.items():
            drawn = [(point.rate, point.latency) for point in curve.points if point.latency is not None]
            rates, latencies = zip(*drawn, strict=True) if drawn else ((), ())
            lines.append(Line(style_of(system).title, rates, latencies, system))
        panel = LinePanel(
            self.title.partition(": ")[2], "Request rate (req/s)", "Normalized latency (s/token)",
            tuple(lines), Y_MAX,
        )  # fmt: skip
        return Chart((panel,))


def _mean_ratio(
    curves: Mapping[tuple[str, int], Curve], system: str, options: Options
) -> tuple[float, list[float]]:
    """Paged over the system: the geometric mean over seeds, and every seed's."""
    ratios = [_ratio(curves["paged", seed], curves[system, seed], THRESHOLD) for seed in options.seeds]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)), ratios


def _ratio(curve: Curve, other: Curve, threshold: float) -> float:
    denominator = other.sustained[threshold]
    return curve.sustained[threshold] / denominator if denominator else math.inf


def _points(curves: Mapping[tuple[str, int], Curve]) -> list[Row]:
    return [
        {"system": system, "seed": seed, "rate": point.rate, "normalized_latency_mean_s": point.latency,
         "num_requests": point.num_requests, "running_mean": point.running}
        for (system, seed), curve in curves.items()
        for point in curve.points
    ]  # fmt: skip


def _sustained(curves: Mapping[tuple[str, int], Curve]) -> list[Row]:
    return [
        {"system": system, "seed": seed, "bound_s_per_token": bound, "rate": rate}
        for (system, seed), curve in curves.items()
        for bound, rate in curve.sustained.items()
    ]
