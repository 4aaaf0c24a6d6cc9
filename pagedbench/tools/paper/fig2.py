"""Fig. 2: what the slots of the KV pool hold, OPT-13B on ShareGPT at 4 requests/s (paper, section 6.2)."""

from __future__ import annotations

from pagedbench.tools.paper.claim import Tolerance
from pagedbench.tools.paper.experiment import Experiment
from pagedbench.tools.paper.window_figure import Bar, WindowFigure
from pagedbench.tools.paper.windows import PARTS

EXPERIMENT = Experiment(
    model="opt-13b",
    device="sim:a100-40gb",
    trace="sharegpt",
    rate=4.0,
    duration=900.0,
    window=(300.0, 900.0),
)

PRINTED = {
    "orca-max": {"token states": 20.4, "reserved": 13.3, "internal": 57.3, "external and others": 8.9},
    "orca-pow2": {"token states": 26.8, "reserved": 17.9, "internal": 13.6, "external and others": 41.6},
    "orca-oracle": {"token states": 38.2, "reserved": 25.2, "internal": 0.0, "external and others": 36.6},
    "paged": {"token states": 96.3, "external and others": 3.7},
}
"""Labels on the figure's bars. vLLM's 3.7 is unlabelled, and holds its slack and free blocks too."""

FIGURE = WindowFigure(
    name="fig2",
    title="Fig. 2: share of the KV pool, mean over iterations, percent",
    quantities=PARTS,
    unit="%",
    axis="KV cache usage (%)",
    bars=tuple(
        Bar(
            group="ShareGPT",
            system=system,
            experiment=EXPERIMENT,
            printed=printed,
            tolerance={"token states": Tolerance(0.5), "": Tolerance(1.0)},
            drawn=Tolerance(5.0),
        )
        for system, printed in PRINTED.items()
    ),
    note="Paged: external and others holds the slack of last blocks too, as the paper's bar does.",
)
