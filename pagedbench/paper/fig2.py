"""Fig. 2: what the slots of the KV pool hold, OPT-13B on ShareGPT at 4 requests/s (paper, section 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.paper.claim import Claim, Tolerance
from pagedbench.paper.experiment import Experiment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pagedbench.metrics.records import RunRecord
    from pagedbench.workload.rows import Row

TITLE = "Fig. 2: share of the KV pool, mean over iterations, percent"
TRACE = "sharegpt"
EXPERIMENT = Experiment(
    model="opt-13b",
    device="sim:a100-40gb",
    rate=4.0,
    duration=900.0,
    window=(300.0, 900.0),
    systems=("orca-max", "orca-pow2", "orca-oracle", "paged"),
)
NOTE = "Paged: external and others holds the slack of last blocks too, as the paper's bar does."

PRINTED = {
    "orca-max": {"token states": 20.4, "reserved": 13.3, "internal": 57.3, "external and others": 8.9},
    "orca-pow2": {"token states": 26.8, "reserved": 17.9, "internal": 13.6, "external and others": 41.6},
    "orca-oracle": {"token states": 38.2, "reserved": 25.2, "internal": 0.0, "external and others": 36.6},
    "paged": {"token states": 96.3, "external and others": 3.7},
}
"""Labels on the figure's bars. vLLM's 3.7 is unlabelled, and holds its slack and free blocks too."""

TOLERANCES = {"token states": Tolerance(0.5)}
OTHERWISE = Tolerance(1.0)
DRAWN_TOLERANCE = Tolerance(5.0)


def claims(rows: Iterable[Row], seed: int, *, are_drawn: bool) -> Iterator[Claim]:
    """Every bar of the figure. Lengths that are drawn, not the paper's own, give the same picture only."""
    for system, record in EXPERIMENT.run(rows, seed):
        ours = shares(record)
        if system == "paged":
            ours["external and others"] += ours["reserved"] + ours["internal"]
        for quantity, printed in PRINTED[system].items():
            tolerance = DRAWN_TOLERANCE if are_drawn else TOLERANCES.get(quantity, OTHERWISE)
            yield Claim("fig2", system, quantity, "%", printed, ours[quantity], tolerance)


def shares(record: RunRecord) -> dict[str, float]:
    """The four parts of the figure in percent of the pool."""
    inside = EXPERIMENT.in_window(record)

    def percent(*columns: str) -> float:
        total = sum(float(record.steps[column][inside].mean()) for column in columns)
        return 100.0 * total / record.capacity

    return {
        "token states": percent("kv_token_states"),
        "reserved": percent("kv_reserved"),
        "internal": percent("kv_internal"),
        "external and others": percent("kv_external", "kv_free"),
    }
