"""Coefficients fitted to measured operator times of an A100-80GB; other cards use the same shares."""

from __future__ import annotations

from pagedbench.simulation.operator_times import Accuracy, MatrixTimes, PassTimes

SOURCE = "operator times that Vidur measured on A100-80GB (microsoft/vidur, MIT, commit 7d47513)"
COMMAND = "pagedbench calibrate --operator-times FOLDER"
"""The command that fits the coefficients below to the tables, and prints the errors on held-out rows."""

PASSES = PassTimes(4.5963e-06, 0.36505, 3.6486e-06, 0.43017, 3.6769e-06, 0.47052, 2.1121e-06, 0.93456)
MATRICES = MatrixTimes(4.5649e-06, 0.88255, 0.78093, 2.6832, 0.98514, 0.92700)

MATRICES_BY_WIDTH = {
    4096: MatrixTimes(4.3301e-06, 0.98327, 0.78688, 2.0949, 0.98428, 0.93744),  # llama-2-7b
    5120: MatrixTimes(5.2815e-06, 0.84275, 0.78741, 3.2498, 0.99154, 0.92314),  # internlm-20b
    8192: MatrixTimes(5.1791e-06, 0.84014, 0.77712, 3.4991, 0.97931, 0.90691),  # llama-2-70b
}
"""Coefficients by hidden size, where layers were measured: LLaMA-13B has the size of InternLM-20B."""

HELD_OUT_LAYERS = {1: Accuracy(0.043, 0.106), 2: Accuracy(0.045, 0.127), 4: Accuracy(0.057, 0.130),
                   8: Accuracy(0.056, 0.145)}  # fmt: skip
"""Ranks -> errors of layers without attention: the largest of three models, each held out of the fit."""
