"""FittedCosts: costs found by a fit, in seconds, and their form in JSON files."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from pagedbench.simulation.batch_costs import BatchCosts, curve_through

SINGLE_COSTS = ("step", "sequence", "prompt", "pair", "copy", "swap", "move")
"""Costs that are one number in `FittedCosts` and in `BatchCosts`."""

Knots = dict[int, float]
"""Seconds by number of tokens or rows."""


@dataclass(frozen=True, slots=True)
class FittedCosts:
    """Fitted costs in seconds; see `BatchCosts`.

    `step` is the time of the engine's loop per iteration; the least time of the iteration itself is in the
    first knots. `context` has a value for each kind of attention, "paged" and "contiguous".
    """

    step: float
    layers: Knots
    head: Knots
    sequence: float
    prompt: float
    context: dict[str, float]
    pair: float
    copy: float
    swap: float
    move: float

    def costs(self, attention: str, source: str) -> BatchCosts:
        """The costs of systems with this kind of attention."""
        return BatchCosts(
            source=source,
            layers=curve_through(self.layers),
            head=curve_through(self.head),
            request=0.0,
            context=self.context[attention],
            **{name: getattr(self, name) for name in SINGLE_COSTS},
        )

    def document(self) -> dict[str, object]:
        """Their form in a file; curves as pairs of a number and seconds."""
        fields = asdict(self)
        for name in ("layers", "head"):
            fields[name] = [[count, value] for count, value in sorted(fields[name].items())]
        return fields


def read_costs(fields: dict[str, Any]) -> FittedCosts:
    """The costs of a document.

    Raises:
        KeyError, TypeError, ValueError: it is damaged.
    """
    return FittedCosts(
        layers=read_knots(fields["layers"]),
        head=read_knots(fields["head"]),
        context={name: read_seconds(fields["context"][name]) for name in ("paged", "contiguous")},
        **{name: read_seconds(fields[name]) for name in SINGLE_COSTS},
    )


def read_knots(pairs: list[list[float]]) -> Knots:
    """A curve of a document; ValueError, TypeError: it is damaged."""
    knots = {int(count): read_seconds(seconds) for count, seconds in pairs}
    if not knots or min(knots) < 1 or max(knots) > 2**20:
        raise ValueError("a curve needs counts of 1 or more")
    return knots


def read_seconds(value: object) -> float:
    """A time in a document; ValueError: it is not a time."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is not a time")
    return float(value)
