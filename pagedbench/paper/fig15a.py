"""Fig. 15a: blocks saved by parallel sampling, OPT-13B on Alpaca at 20 requests/s (paper, section 6.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pagedbench.paper.claim import Claim, Tolerance
from pagedbench.paper.sharing import ALPACA, saving
from pagedbench.workload.dataset import load_dataset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pagedbench.paper.experiment import Experiment
    from pagedbench.workload.rows import Row

TITLE = "Fig. 15a: blocks saved by sharing, parallel sampling, percent"
TRACE = "alpaca"
EXPERIMENT = ALPACA
NOTE = (
    "ShareGPT, at 0.5 requests/s, is never a --trace. The paper prints only its range, 16.2 to 30.5 %; the "
    "three numbers are those that the paper's rules give on its own lengths."
)

PRINTED = {2: 6.09, 4: 8.53, 6: 9.79}
"""Labels on the figure's bars, by samples of a prompt."""

TOLERANCE = Tolerance(1.5)
DRAWN_TOLERANCE = Tolerance(2.5)

SHAREGPT = replace(ALPACA, rate=0.5)
SHAREGPT_RANGE = {2: 17.6, 4: 26.4, 6: 29.4}
SHAREGPT_TOLERANCE = Tolerance(2.5)
SHAREGPT_DRAWN_TOLERANCE = Tolerance(4.0)


def claims(rows: Iterable[Row], seed: int, *, are_drawn: bool) -> Iterator[Claim]:
    """Every bar of the figure, and what the text says of ShareGPT beside it, from the bundled lengths."""
    tolerance = DRAWN_TOLERANCE if are_drawn else TOLERANCE
    yield from _claims(EXPERIMENT, "Alpaca", PRINTED, rows, seed, tolerance)
    yield from sharegpt_claims(load_dataset("sharegpt").rows, seed, are_drawn=True)


def sharegpt_claims(rows: Iterable[Row], seed: int, *, are_drawn: bool) -> Iterator[Claim]:
    """Savings on ShareGPT's longer prompts."""
    tolerance = SHAREGPT_DRAWN_TOLERANCE if are_drawn else SHAREGPT_TOLERANCE
    yield from _claims(SHAREGPT, "ShareGPT", SHAREGPT_RANGE, rows, seed, tolerance)


def _claims(
    experiment: Experiment,
    name: str,
    expected: Mapping[int, float],
    rows: Iterable[Row],
    seed: int,
    tolerance: Tolerance,
) -> Iterator[Claim]:
    for n, paper in expected.items():
        for system, record in replace(experiment, n=n).run(rows, seed):
            ours = saving(experiment, record)
            yield Claim("fig15a", system, f"{name}, n = {n}", "%", paper, ours, tolerance)
