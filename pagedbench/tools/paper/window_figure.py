"""WindowFigure: bars of the paper that are means over the iterations of a window (Fig. 2, 13, 15)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.show.charts import BarPanel, Bars, Chart
from pagedbench.show.styles import PART_STYLES, style_of
from pagedbench.tools.paper.claim import Claim, Near, Tolerance
from pagedbench.tools.paper.figure import Outcome, Piece
from pagedbench.tools.paper.setup_facts import setup_facts
from pagedbench.tools.paper.windows import PARTS, observe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagedbench.tools.paper.experiment import Experiment
    from pagedbench.tools.paper.figure import Options, Row
    from pagedbench.tools.paper.windows import Observation

RUNNING, SAVING = "batched requests", "saving"

PART_COLORS = dict(zip(PARTS, (style.color for style in PART_STYLES), strict=False))


@dataclass(frozen=True, slots=True)
class Bar:
    """One run of a figure.

    Attributes:
        group: what its bars stand over.
        printed: quantity -> the number that the paper prints; a run without any is only shown.
        tolerance, drawn: by quantity or for all (""), on the paper's lengths and on drawn ones.
        why: the cause, should a number be missed.
    """

    group: str
    system: str
    experiment: Experiment
    printed: Mapping[str, float]
    tolerance: Mapping[str, Tolerance]
    drawn: Tolerance
    why: str = ""

    @property
    def name(self) -> str:
        return f"{self.group} {self.system}"


@dataclass(frozen=True, slots=True)
class WindowFigure:
    """Quantities: `RUNNING`, `SAVING` or the parts of the pool. `note`: what to know."""

    name: str
    title: str
    quantities: tuple[str, ...]
    unit: str
    axis: str
    bars: tuple[Bar, ...]
    note: str

    @property
    def traces(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(bar.experiment.trace for bar in self.bars))

    def pieces(self, options: Options) -> Sequence[Piece]:
        limit = options.max_num_seqs
        return [
            Piece(
                bar.name,
                observe,
                (replace(bar.experiment, max_num_seqs=limit), bar.system, options.lengths, options.seed),
            )
            for bar in self.bars
        ]

    def outcome(self, options: Options, results: Mapping[str, Observation]) -> Outcome:
        rows: list[Row] = []
        claims: list[Claim] = []
        for bar in self.bars:
            values = values_of(results[bar.name], self.quantities, bar.system)
            rows += [
                {"group": bar.group, "system": bar.system, "quantity": name, "paper": bar.printed.get(name),
                 "ours": value, "unit": self.unit}
                for name, value in values.items()
            ]  # fmt: skip
            is_drawn = options.lengths.are_drawn(bar.experiment.trace)
            claims += [self._claim(bar, name, values[name], is_drawn) for name in bar.printed]
        facts = [*setup_facts(self.bars[0].experiment, self.bars[0].system, options), self.note]
        return Outcome({"": rows}, claims, self._chart(results), facts)

    def _claim(self, bar: Bar, quantity: str, ours: float, is_drawn: bool) -> Claim:
        exact = bar.tolerance.get(quantity) or bar.tolerance[""]
        expected = Near(bar.printed[quantity], bar.drawn if is_drawn else exact)
        subject = bar.system if len({other.group for other in self.bars}) == 1 else bar.name
        why = "the lengths are drawn, not the paper's own" if is_drawn and not bar.why else bar.why
        return Claim(self.name, subject, quantity, self.unit, expected, ours, why)

    def _chart(self, results: Mapping[str, Observation]) -> Chart:
        groups = tuple(dict.fromkeys(bar.group for bar in self.bars))
        if len(self.quantities) > 1:
            found = [results[bar.name] for bar in self.bars]
            values = [
                values_of(item, self.quantities, bar.system)
                for item, bar in zip(found, self.bars, strict=True)
            ]
            parts = tuple(
                Bars(part, tuple(item.get(part, 0.0) for item in values), color=PART_COLORS[part])
                for part in self.quantities
            )
            names = tuple(bar.system.replace("-", "\n") for bar in self.bars)
            return Chart((BarPanel("", self.axis, names, parts, is_stacked=True),))
        (quantity,) = self.quantities
        by_bar = {
            (bar.group, bar.system): values_of(results[bar.name], self.quantities, bar.system)[quantity]
            for bar in self.bars
        }
        systems = tuple(dict.fromkeys(bar.system for bar in self.bars))
        bars = tuple(
            Bars(style_of(system).title, tuple(by_bar.get((group, system)) for group in groups), system)
            for system in systems
        )
        return Chart((BarPanel("", self.axis, groups, bars),))


def values_of(found: Observation, quantities: tuple[str, ...], system: str) -> dict[str, float]:
    """The quantities of one run. The paper's bar of vLLM has two parts: slack of last blocks is "other"."""
    if quantities == (RUNNING,):
        return {RUNNING: found.running}
    if quantities == (SAVING,):
        return {SAVING: found.saving}
    shares = {part: found.shares[part] for part in PARTS}
    if system == "paged":
        shares["external and others"] += shares.pop("reserved") + shares.pop("internal")
    return shares
