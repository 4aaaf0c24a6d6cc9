"""Coefficients of today's kernels, fitted to operator times of vLLM 0.14; the H200 has the H100's."""

from __future__ import annotations

from dataclasses import dataclass

from pagedbench.simulation.kernel_times import AllReduceTimes, DecodeTimes, GemmTimes, PrefillTimes

SOURCE = "aiconfigurator's tables of vLLM 0.14 (ai-dynamo/aiconfigurator, Apache-2.0, commit 095f58a)"
COMMAND = "pagedbench calibrate --operator-times FOLDER"
"""Makes the coefficients below from a folder of the tables, and prints their errors on held-out rows."""


@dataclass(frozen=True, slots=True)
class CardTimes:
    """The kernels of one card. `source`: what they were fitted to, in words."""

    source: str
    gemm: GemmTimes
    decode: DecodeTimes
    prefill: PrefillTimes
    reduce_graph: AllReduceTimes
    reduce_eager: AllReduceTimes


TIMES = {
    "a100-80gb": CardTimes(
        f"kernels fitted to {SOURCE} on A100-80GB",
        GemmTimes(6.5416e-7, 0.90863, 0.97451, 0.50957, 0.96274, 0.90745, 1.8138e-6, 3.1876e-6),
        DecodeTimes(1.8355e-5, 0.69388, 3.5386e-8, 7.2014, 1.2785e-11, 2.2553e-8, 9.5585e-6, 1.2629e-5,
                    0.0),
        PrefillTimes(8.3273e-6, 0.59377, 0.53301, 1.4072e-8, 0.082725, 0.51947, rows=64, packs=False),
        AllReduceTimes(4.7123e-6, 1.0161e11, 0.1595, 1.8452e-7),
        AllReduceTimes(4.4035e-5, 8.2572e10, 0.77825, 9.9569e-8),
    ),
    "h100": CardTimes(
        f"kernels fitted to {SOURCE} on H100",
        GemmTimes(2.5508e-6, 0.89169, 0.81232, 1.4086, 1.0792, 0.99157, 3.2833e-6, 8.12e-8),
        DecodeTimes(1.0995e-5, 0.86023, 2.6193e-8, 1.8516, 6.3245e-12, 9.1103e-10, 1.1049e-5, 1.1336e-5,
                    3.046e-5),
        PrefillTimes(9.9852e-6, 0.63462, 0.78753, 9.6462e-9, 0.12521, 0.40531, rows=128, packs=True),
        AllReduceTimes(4.1535e-6, 1.6877e11, 0.16237, 9.6392e-8),
        AllReduceTimes(1.9822e-5, 1.4303e11, 0.45499, 1.9489e-7),
    ),
}  # fmt: skip
"""Errors on shapes held out of the fit (every third), median and 95th percentile, on A100 and on H100:

| kernel | A100 | H100 |
|---|---|---|
| products of matrices | 6.4 %, 25 % | 4.7 %, 20 % |
| decode attention | 6.2 %, 32 % | 5.8 %, 33 % |
| prefill attention | 5.5 %, 27 % | 8.0 %, 28 % |
| all-reduce, CUDA graph | 6.0 %, 40 % | 5.8 %, 26 % |
| all-reduce, eager | 2.6 %, 25 % | 5.6 %, 21 % |
"""
