"""RateFigure: normalized latency over the request rate for several systems (Fig. 12, 14, 16, 17)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.show.charts import Axis, Chart, LinePanel, lines_of
from pagedbench.tools.paper.claim import Claim
from pagedbench.tools.paper.curve import THRESHOLD, THRESHOLDS, measure_curve
from pagedbench.tools.paper.figure import Outcome, Piece, setup_facts
from pagedbench.tools.paper.lengths import SHAREGPT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagedbench.tools.paper.claim import Expectation
    from pagedbench.tools.paper.curve import Curve
    from pagedbench.tools.paper.experiment import Experiment
    from pagedbench.tools.paper.figure import Options, Row

RATE = Axis("Request rate (req/s)")
LATENCY = Axis("Normalized latency (s/token)", top=1.0)
"""The paper cuts its axis there."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What the paper says about paged's sustained rate / that of `system`."""

    system: str
    expected: Expectation
    why: str = ""


@dataclass(frozen=True, slots=True)
class Variant:
    """A changed assumption, for the systems of the claims: its ratios are shown, not judged.

    `other`: the set-up of the system that paged is compared with, if that differs.
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
        starts: system -> the rate at which the search for its sustained rate begins.
        gains: claims about ratios; `variants`: their sensitivity, with the first seed.
    """

    name: str
    title: str
    experiment: Experiment
    starts: Mapping[str, float]
    gains: tuple[Gain, ...]
    variants: tuple[Variant, ...] = ()
    note: str = ""

    @property
    def traces(self) -> tuple[str, ...]:
        mixed = [SHAREGPT for variant in self.variants if variant.experiment.new_share is not None]
        return tuple(dict.fromkeys([self.experiment.trace, *mixed]))

    @property
    def _compared(self) -> tuple[str, ...]:
        """The systems of the claims."""
        return ("paged", *(gain.system for gain in self.gains))

    def pieces(self, options: Options) -> Sequence[Piece]:
        first, single = options.seed, (THRESHOLD,)

        def piece(
            name: str, set_up: Experiment, system: str, seed: int, bounds: tuple[float, ...]
        ) -> Piece:
            own = replace(set_up, rate=self.starts[system])
            return options.piece(name, measure_curve, own, system, bounds, seed=seed)

        return [
            piece(
                f"{system} s{seed}", self.experiment, system, seed, THRESHOLDS if seed == first else single
            )
            for seed in options.seeds
            for system in self.starts
        ] + [
            piece(f"{system}, {variant.words}", variant.of(system), system, first, single)
            for variant in self.variants
            for system in self._compared
        ]

    def outcome(self, options: Options, results: Mapping[str, Curve]) -> Outcome:
        curves = {(system, seed): results[f"{system} s{seed}"]
                  for seed in options.seeds for system in self.starts}  # fmt: skip
        by_seed = {
            system: [
                _ratio(curves["paged", seed], curves[system, seed], THRESHOLD) for seed in options.seeds
            ]
            for system in self.starts
        }
        ratios = {
            system: math.exp(sum(map(math.log, own)) / len(own)) for system, own in by_seed.items()
        }  # fmt: skip
        claims = []
        for gain in self.gains:
            own = by_seed[gain.system]
            spread = (min(own), max(own)) if len(own) > 1 else None
            claims.append(Claim(self.name, f"paged / {gain.system}", "sustained rate", "x", gain.expected,
                                ratios[gain.system], gain.why, spread))  # fmt: skip
        bounds = {
            system: "/".join(
                f"{_ratio(curves['paged', options.seed], curves[system, options.seed], bound):.2f}"
                for bound in THRESHOLDS
            )
            for system in self.starts
            if system != "paged"
        }
        facts = [
            *setup_facts(self.experiment, options),
            "Sustained: the highest rate whose mean normalized latency over "
            f"{self.experiment.duration:g} s of arrivals is at most {THRESHOLD:g} s/token (the paper "
            f"states no bound); paged over others at {'/'.join(f'{bound:g}' for bound in THRESHOLDS)} "
            f"s/token: {', '.join(f'{system} {text}' for system, text in bounds.items())}.",
            *(self._sensitivity(variant, results) for variant in self.variants),
            *([self.note] if self.note else []),
        ]
        points = _points(curves)
        first = [row for row in points if row["seed"] == options.seed]
        lines = lines_of(first, "rate", "normalized_latency_mean_s", "system")
        chart = Chart((LinePanel(self.title.partition(": ")[2], RATE, LATENCY, lines),))
        del ratios["paged"]
        return Outcome({"": points, "-sustained": _sustained(curves)}, claims, chart, facts, ratios)

    def _sensitivity(self, variant: Variant, results: Mapping[str, Curve]) -> str:
        paged, *others = (results[f"{system}, {variant.words}"] for system in self._compared)
        ratios = [
            f"{gain.system} {_ratio(paged, other, THRESHOLD):.2f} x "
            f"({paged.sustained[THRESHOLD]:.3g}/{other.sustained[THRESHOLD]:.3g} requests/s)"
            for gain, other in zip(self.gains, others, strict=True)
        ]
        return f"With {variant.words}: paged / {', / '.join(ratios)}."


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
