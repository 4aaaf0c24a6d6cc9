"""Predictions in words: the intervals of a run on a server's twin, and what they do not cover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.metrics.formulas import METRICS
from pagedbench.option_values import typed
from pagedbench.runs.numbers import counted, number
from pagedbench.show.table import Column, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagedbench.runs.prediction import Prediction


def prediction_table(prediction: Prediction, values: Mapping[str, object]) -> Table:
    """One row per metric: the prediction of the run, and the interval."""
    units = {metric.name: metric.unit for metric in METRICS}
    rows = [
        (name, units[name], values[name], low, high) for name, (low, high) in prediction.intervals.items()
    ]
    columns = (
        Column("predicted", is_key=True, is_text=True),
        Column("unit", is_text=True),
        Column("value"),
        Column("from"),
        Column("to"),
    )
    return Table(columns, rows)


def prediction_sentences(prediction: Prediction) -> list[str]:
    """What the interval means, and what lies outside the measurements."""
    sentences = []
    if prediction.intervals:
        sentences.append(
            f"Predicted, not measured: intervals are the range of this run and {prediction.num_draws} "
            "with other costs that explain the calibration equally well; about "
            f"{prediction.probability:.0%} of further such runs lie in them. They do not cover the "
            "server's scheduling: all runs schedule as this one does."
        )
    for item in prediction.outside:
        sentences.append(
            f"Outside the measurements: {item.share:.1%} of the iterations have more {item.what} (up to "
            f"{number(item.most)}) than any in the calibration (up to {number(item.measured)})."
        )
    if prediction.unmeasured:
        sentences.append(
            f"Outside the measurements: {counted(prediction.unmeasured, 'iteration')} moved or copied "
            "blocks, which is assumed to cost nothing."
        )
    if prediction.changed:
        told = ", ".join(typed(name, value) for name, value in prediction.changed.items())
        sentences.append(f"The server was calibrated with {told}: this run assumes other values.")
    return sentences
