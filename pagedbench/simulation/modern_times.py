"""Coefficients of today's kernels, fitted to operator times of vLLM 0.14; the H200 uses the H100's."""

from __future__ import annotations

from dataclasses import dataclass

from pagedbench.simulation.expert_times import ExpertTimes
from pagedbench.simulation.kernel_times import AllReduceTimes, DecodeTimes, GemmTimes, PrefillTimes
from pagedbench.simulation.operator_times import Accuracy

SOURCE = "aiconfigurator's tables of vLLM 0.14 (ai-dynamo/aiconfigurator, Apache-2.0, commit 095f58a)"
COMMAND = "pagedbench calibrate --operator-times FOLDER"
"""The command that fits the coefficients below to the tables, and prints the errors on held-out rows."""


@dataclass(frozen=True, slots=True)
class CardTimes:
    """The kernels of one card. `source`: what they were fitted to, in words."""

    source: str
    gemm: GemmTimes
    decode: DecodeTimes
    prefill: PrefillTimes
    reduce_graph: AllReduceTimes
    reduce_eager: AllReduceTimes
    experts: ExpertTimes


TIMES = {
    "a100-80gb": CardTimes(
        f"kernels fitted to {SOURCE} on A100-80GB",
        GemmTimes(6.5416e-7, 0.90863, 0.97451, 0.50957, 0.96274, 0.90745, 1.8138e-6, 3.1876e-6),
        DecodeTimes(1.7819e-5, 0.73881, 3.6515e-8, 4.9884, 9.0387e-12, 2.253e-8, 9.4891e-6, 1.2389e-5,
                    1.0091e-7, 5.3976e-6),
        PrefillTimes(8.3273e-6, 0.59377, 0.53301, 1.4072e-8, 0.082725, 0.51947, rows=64, packs=False),
        AllReduceTimes(4.7123e-6, 1.0161e11, 0.1595, 1.8452e-7),
        AllReduceTimes(4.4035e-5, 8.2572e10, 0.77825, 9.9569e-8),
        ExpertTimes(4.3422e-5, 0.94155, 0.43871, 0.5481, 1.4009, 1.194, 0.39666),
    ),
    "h100": CardTimes(
        f"kernels fitted to {SOURCE} on H100",
        GemmTimes(2.5508e-6, 0.89169, 0.81232, 1.4086, 1.0792, 0.99157, 3.2833e-6, 8.12e-8),
        DecodeTimes(1.0764e-5, 0.87575, 2.6653e-8, 1.7116, 4.4013e-12, 9.3401e-10, 1.1034e-5, 1.1061e-5,
                    3.0856e-5, 2.171e-6),
        PrefillTimes(9.9852e-6, 0.63462, 0.78753, 9.6462e-9, 0.12521, 0.40531, rows=128, packs=True),
        AllReduceTimes(4.1535e-6, 1.6877e11, 0.16237, 9.6392e-8),
        AllReduceTimes(1.9822e-5, 1.4303e11, 0.45499, 1.9489e-7),
        ExpertTimes(3.3711e-5, 0.98482, 0.23661, 0.56686, 2.5193, 1.1671, 0.36554),
    ),
}  # fmt: skip

HELD_OUT = {
    "a100-80gb": {
        "gemm": Accuracy(0.064, 0.253), "decode attention": Accuracy(0.043, 0.219),
        "prefill attention": Accuracy(0.055, 0.271), "all-reduce, graph": Accuracy(0.060, 0.401),
        "all-reduce, eager": Accuracy(0.026, 0.248), "experts": Accuracy(0.060, 0.205),
    },
    "h100": {
        "gemm": Accuracy(0.047, 0.199), "decode attention": Accuracy(0.045, 0.318),
        "prefill attention": Accuracy(0.080, 0.282), "all-reduce, graph": Accuracy(0.058, 0.258),
        "all-reduce, eager": Accuracy(0.056, 0.214), "experts": Accuracy(0.062, 0.198),
    },
}  # fmt: skip
"""Card -> kernel -> errors on every third shape, held out of the fit, as `COMMAND` prints them."""

DECODE_STEPS = {
    "a100-80gb": {1: Accuracy(0.049, 0.161), 2: Accuracy(0.034, 0.161), 4: Accuracy(0.025, 0.170),
                  8: Accuracy(0.055, 0.181)},
    "h100": {1: Accuracy(0.035, 0.176), 2: Accuracy(0.038, 0.166), 4: Accuracy(0.032, 0.193),
             8: Accuracy(0.065, 0.203)},
}  # fmt: skip
"""Card -> ranks -> errors of whole decode steps, summed from the tables' kernels, for five models, two of
them with experts."""
