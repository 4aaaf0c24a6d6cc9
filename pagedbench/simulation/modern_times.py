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
        GemmTimes(8.469e-7, 0.8979, 0.9706, 0.5372, 0.9639, 0.9118, 1.7997e-6, 3.0111e-6),
        DecodeTimes(1.8459e-5, 0.6968, 3.5635e-8, 6.9897, 1.179e-11, 2.248e-8, 9.566e-6, 1.2791e-5),
        PrefillTimes(8.2496e-6, 0.5959, 0.5508, 1.4589e-8, 0.074, 0.5097, rows=64, packs=False),
        AllReduceTimes(4.71e-6, 1.015e11, 0.213, 2.42e-7),
        AllReduceTimes(4.431e-5, 7.95e10, 2.268, 7.9e-8),
    ),
    "h100": CardTimes(
        f"kernels fitted to {SOURCE} on H100",
        GemmTimes(2.5227e-6, 0.8894, 0.3164, 1.4974, 1.1967, 2.3415, 3.3226e-6, 1.333e-7),
        DecodeTimes(1.0984e-5, 0.8647, 2.6172e-8, 1.7325, 6.206e-12, 8.976e-10, 1.1095e-5, 1.1419e-5),
        PrefillTimes(9.9636e-6, 0.6381, 0.8318, 9.5747e-9, 0.1193, 0.399, rows=128, packs=True),
        AllReduceTimes(4.122e-6, 1.681e11, 0.169, 1.07e-7),
        AllReduceTimes(1.9713e-5, 1.417e11, 0.485, 2.36e-7),
    ),
}
