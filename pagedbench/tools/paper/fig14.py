"""Fig. 14: normalized latency over the rate, OPT-13B on Alpaca, samples and beams (section 6.3)."""

from __future__ import annotations

from dataclasses import replace

from pagedbench.simulation.cards import VLLM_2023
from pagedbench.simulation.executor import BEST_PARENT_PROBABILITY
from pagedbench.tools.paper.claim import Between, Near, Tolerance
from pagedbench.tools.paper.experiment import Experiment, HostTimes
from pagedbench.tools.paper.rate_figure import Gain, RateFigure, Variant

ALPACA = Experiment("opt-13b", "sim:a100-40gb", "alpaca", 600.0, cost_model="vllm-2023")
"""Ten minutes of arrivals, as the authors' artifact."""

BEAMS = replace(ALPACA, duration=300.0)
"""Beams take longer to simulate, and a steady state is soon reached: five minutes."""

ABOVE_BASIC = Between(1.3, None, "above basic sampling's 1.3")
BEAM_6 = Near(2.3, Tolerance(0.20, is_relative=True))

LAW = (
    "Who continues whom is drawn: each beam but the best gives itself up for the best with probability "
    f"{BEST_PARENT_PROBABILITY:g} a step."
)


def _starts(paged: float, oracle: float, pow2: float, maximum: float) -> dict[str, float]:
    """The highest rates at which the authors ran them."""
    return {"paged": paged, "orca-oracle": oracle, "orca-pow2": pow2, "orca-max": maximum}


def _host_per_sequence(experiment: Experiment, width: int) -> tuple[Variant, ...]:
    """The host's time was fitted where a request is one sequence: what if it is spent on each of them?"""
    host = HostTimes(request=width * VLLM_2023.request)
    words = f"{1e3 * VLLM_2023.request:g} ms of host a sequence, not a request"
    return (Variant(words, replace(experiment, host=host)),)


SIX_SAMPLES, SIX_BEAMS = replace(ALPACA, n=6), replace(BEAMS, beam_width=6)

FIGURES = (
    RateFigure("fig14a", "Fig. 14a: OPT-13B, Alpaca, 2 samples", replace(ALPACA, n=2),
               _starts(20, 14, 12, 2.5), (Gain("orca-oracle", ABOVE_BASIC),)),
    RateFigure("fig14b", "Fig. 14b: OPT-13B, Alpaca, 4 samples", replace(ALPACA, n=4),
               _starts(12, 9, 6, 1), (Gain("orca-oracle", ABOVE_BASIC),)),
    RateFigure("fig14c", "Fig. 14c: OPT-13B, Alpaca, 6 samples", SIX_SAMPLES,
               _starts(9, 6, 4.5, 1), (Gain("orca-oracle", ABOVE_BASIC),),
               _host_per_sequence(SIX_SAMPLES, 6)),
    RateFigure("fig14d", "Fig. 14d: OPT-13B, Alpaca, beam width 2", replace(BEAMS, beam_width=2),
               _starts(19, 11, 9, 2), (Gain("orca-oracle", ABOVE_BASIC),), note=LAW),
    RateFigure("fig14e", "Fig. 14e: OPT-13B, Alpaca, beam width 4", replace(BEAMS, beam_width=4),
               _starts(11, 6, 4.5, 1), (Gain("orca-oracle", ABOVE_BASIC),), note=LAW),
    RateFigure("fig14f", "Fig. 14f: OPT-13B, Alpaca, beam width 6", SIX_BEAMS,
               _starts(8.5, 4.5, 3, 1), (Gain("orca-oracle", BEAM_6),),
               _host_per_sequence(SIX_BEAMS, 6), LAW),
)  # fmt: skip
