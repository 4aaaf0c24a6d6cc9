"""Fig. 13: requests in a batch, OPT-13B on ShareGPT and on Alpaca (paper, section 6.2)."""

from __future__ import annotations

from dataclasses import replace

from pagedbench.tools.paper.claim import Tolerance
from pagedbench.tools.paper.experiment import Experiment, HostTimes
from pagedbench.tools.paper.window_figure import RUNNING, Bar, WindowFigure

SHAREGPT = Experiment(
    model="opt-13b",
    device="sim:a100-40gb",
    trace="sharegpt",
    rate=2.0,
    duration=3600.0,
    window=(600.0, 3600.0),
)
ALPACA = replace(
    SHAREGPT,
    trace="alpaca",
    rate=30.0,
    duration=900.0,
    window=(300.0, 900.0),
    cost_model="vllm-2023",
)
LEAN_ALPACA = replace(ALPACA, host=HostTimes(request=0.0))

PRINTED_13A = {"orca-max": 7.00, "orca-pow2": 9.81, "orca-oracle": 13.62, "paged": 30.42}
PRINTED_13B = {"orca-max": 7.00, "orca-pow2": 43.24, "orca-oracle": 72.75, "paged": 132.44}
"""Labels on the figures' bars."""

KNEE = "vLLM stands at its knee at 2 requests/s, where a step time 1 % longer means 3 % more in the batch"

FIG13A = WindowFigure(
    name="fig13a",
    title="Fig. 13a: batched requests, mean over iterations, ShareGPT",
    quantities=(RUNNING,),
    unit="requests",
    axis="# batched requests",
    bars=tuple(
        Bar(
            group="ShareGPT",
            system=system,
            experiment=SHAREGPT,
            printed={RUNNING: printed},
            tolerance={"": Tolerance(0.10 if system == "paged" else 0.05, is_relative=True)},
            drawn=Tolerance(0.12, is_relative=True),
            why=KNEE if system == "paged" else "",
        )
        for system, printed in PRINTED_13A.items()
    ),
    note="The authors' script runs 1.5 requests/s; the figure's values belong to 2.0.",
)

FIG13B = WindowFigure(
    name="fig13b",
    title="Fig. 13b: batched requests, mean over iterations, Alpaca",
    quantities=(RUNNING,),
    unit="requests",
    axis="# batched requests",
    bars=(
        *(
            Bar(
                group="Alpaca",
                system=system,
                experiment=ALPACA,
                printed={RUNNING: printed},
                tolerance={"": Tolerance(0.10, is_relative=True)},
                drawn=Tolerance(0.12, is_relative=True),
            )
            for system, printed in PRINTED_13B.items()
        ),
        *(Bar("without host time", system, LEAN_ALPACA, {}, {}, Tolerance(0.0)) for system in PRINTED_13B),
    ),
    note=(
        "The engine of 2023 spent time on every running request in every iteration: 0.225 ms, fitted to "
        "this figure's bar of vLLM. Without it nothing would queue at 30 requests/s, except in Orca (Max)."
    ),
)
