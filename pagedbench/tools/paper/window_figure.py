"""WindowFigure: bars of the paper that are means over the iterations in a window (Fig. 2, 13, 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.show.charts import Axis, BarPanel, Chart, bars_of
from pagedbench.tools.paper.claim import Claim, Near, Tolerance
from pagedbench.tools.paper.figure import Outcome, Piece, setup_facts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagedbench.metrics.records import RunRecord
    from pagedbench.tools.paper.experiment import Experiment
    from pagedbench.tools.paper.figure import Options, Row
    from pagedbench.tools.paper.lengths import Lengths

RUNNING, SAVING = "batched requests", "saving"
PARTS = ("token states", "reserved", "internal", "external and others")


def observe(experiment: Experiment, system: str, lengths: Lengths, seed: int) -> dict[str, float]:
    """Run an experiment, and return its quantities."""
    return quantities_of(experiment, experiment.run(system, lengths, seed))


def quantities_of(experiment: Experiment, record: RunRecord) -> dict[str, float]:
    """Means over the iterations that begin within the window of the experiment.

    `RUNNING`: requests in an iteration. `SAVING`: blocks saved by sharing in percent, 1 - 1 / mean of
    logical / physical (`plot/plot_fig15.py`). `PARTS`: shares of the pool in percent.
    """
    start, end = experiment.window
    steps = record.steps
    inside = (steps.start >= start) & (steps.start <= end)

    def percent(*columns: str) -> float:
        return 100.0 * sum(float(steps[column][inside].mean()) for column in columns) / record.capacity

    physical = record.capacity - steps["kv_free"][inside]
    ratio = float((1.0 + steps["kv_shared"][inside] / physical).mean())
    return {
        RUNNING: float(steps["running"][inside].mean()),
        SAVING: 100.0 * (1.0 - 1.0 / ratio),
        "token states": percent("kv_token_states"),
        "reserved": percent("kv_reserved"),
        "internal": percent("kv_internal"),
        "external and others": percent("kv_external", "kv_free"),
    }


@dataclass(frozen=True, slots=True)
class Bar:
    """One run of a figure.

    Attributes:
        group: the name below its bars.
        printed: quantity -> the number that the paper prints; a run without numbers is only shown.
        tolerance: by quantity, or for all (""), on the paper's own lengths.
        synthetic: the tolerance for every quantity on synthesized lengths.
        why: the cause if a number is missed.
    """

    group: str
    system: str
    experiment: Experiment
    printed: Mapping[str, float]
    tolerance: Mapping[str, Tolerance]
    synthetic: Tolerance
    why: str = ""

    @property
    def name(self) -> str:
        return f"{self.group} {self.system}"


@dataclass(frozen=True, slots=True)
class WindowFigure:
    """The figure. Quantities: `RUNNING`, `SAVING` or the parts of the pool. `note`: for the reader."""

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
        return [options.piece(bar.name, observe, bar.experiment, bar.system) for bar in self.bars]

    def outcome(self, options: Options, results: Mapping[str, Mapping[str, float]]) -> Outcome:
        rows: list[Row] = []
        claims: list[Claim] = []
        for bar in self.bars:
            values = values_of(results[bar.name], self.quantities, bar.system)
            rows += [
                {"group": bar.group, "system": bar.system, "quantity": name, "paper": bar.printed.get(name),
                 "ours": value, "unit": self.unit}
                for name, value in values.items()
            ]  # fmt: skip
            is_synthetic = options.lengths.are_drawn(bar.experiment.trace)
            claims += [self._claim(bar, name, values[name], is_synthetic) for name in bar.printed]
        facts = [*setup_facts(self.bars[0].experiment, options, self.bars[0].system), self.note]
        return Outcome({"": rows}, claims, Chart((self._panel(rows),)), facts)

    def _claim(self, bar: Bar, quantity: str, ours: float, is_synthetic: bool) -> Claim:
        exact = bar.tolerance.get(quantity) or bar.tolerance[""]
        expected = Near(bar.printed[quantity], bar.synthetic if is_synthetic else exact)
        subject = bar.system if len({other.group for other in self.bars}) == 1 else bar.name
        why = (
            "the lengths are synthesized, not the paper's own" if is_synthetic and not bar.why else bar.why
        )
        return Claim(self.name, subject, quantity, self.unit, expected, ours, why)

    def _panel(self, rows: Sequence[Row]) -> BarPanel:
        """Parts of the pool as stacked bars by system, other quantities as adjacent bars by group."""
        is_stacked = len(self.quantities) > 1
        group, by = ("system", "quantity") if is_stacked else ("group", "system")
        names = dict.fromkeys(str(row[group]) for row in rows)
        groups = tuple(name.replace("-" if is_stacked else ", ", "\n") for name in names)
        bars = bars_of(rows, group, "ours", by)
        return BarPanel("", Axis(f"{self.axis},\nmean over iterations"), groups, bars, is_stacked)


def values_of(found: Mapping[str, float], quantities: tuple[str, ...], system: str) -> dict[str, float]:
    """Some quantities of a run. The paper's bar for vLLM has two parts: slack of last blocks is "other"."""
    values = {name: found[name] for name in quantities}
    if quantities == PARTS and system == "paged":
        values["external and others"] += values.pop("reserved") + values.pop("internal")
    return values
