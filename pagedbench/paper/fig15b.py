"""Fig. 15b: blocks saved by beam search, OPT-13B on Alpaca at 20 requests/s (paper, section 6.3).

The savings follow from who continues whom, which only the paper's model on the paper's prompts can tell.
The simulation draws it by a law (`execution.simulated`) whose one number was measured on a small trained
model. There, every beam but the best gives itself up equally often at every width, so replies share
almost all but their last blocks, and savings rise with the width: ours lie above the paper's. In the paper
width 6 saves hardly more than width 4: a law under which further beams keep to themselves for longer
would give that (0.85 to continue itself, else anybody: 37.4 / 54.0 / 58.7 %), but it would be fitted to
the figure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pagedbench.execution.simulated import BEST_PARENT_PROBABILITY
from pagedbench.paper.claim import Claim, Tolerance
from pagedbench.paper.sharing import ALPACA, saving

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pagedbench.workload.rows import Row

TITLE = "Fig. 15b: blocks saved by sharing, beam search, percent"
TRACE = "alpaca"
EXPERIMENT = ALPACA
NOTE = (
    "Who continues whom is drawn: in every step each beam but the best gives itself up for the best "
    f"with probability {BEST_PARENT_PROBABILITY:g}, as measured on a small trained model. To save as "
    "little as the paper prints at width 6, beams would have to keep apart for longer; which law OPT-13B "
    "follows cannot be told without the model."
)

PRINTED = {2: 37.56, 4: 53.13, 6: 55.16}
"""Labels on the figure's bars, by beam width."""

TOLERANCE = Tolerance(10.0)
"""Wide, because of the law of ancestry; lengths that are drawn move the numbers by a point at most."""


def claims(rows: Iterable[Row], seed: int, *, are_drawn: bool) -> Iterator[Claim]:
    """Every bar of the figure."""
    for width, printed in PRINTED.items():
        for system, record in replace(EXPERIMENT, beam_width=width).run(rows, seed):
            ours = saving(EXPERIMENT, record)
            yield Claim("fig15b", system, f"Alpaca, beam width {width}", "%", printed, ours, TOLERANCE)
