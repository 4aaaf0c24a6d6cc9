"""Synthesized lengths, sampled from published quantiles or a log-normal, so that no text is needed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pagedbench.workload.bundled import SETS, TABLES, traces_folder
from pagedbench.workload.rows import Row, TraceError, unknown_name
from pagedbench.workload.seeds import Stream, generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ROWS = 10_000_000
MAX_TRIES = 1000

SYNTHETIC_MEAN = 128.0
SYNTHETIC_SIGMA = 0.8
SYNTHETIC_MAX = 1023


class Marginal(Protocol):
    """A distribution of lengths, by its inverse."""

    def lengths(self, levels: NDArray[np.float64]) -> NDArray[np.int64]:
        """The lengths at these levels (probabilities).  # [n] -> [n]"""
        ...


@dataclass(frozen=True, slots=True)
class QuantileTable:
    """A distribution known at some levels; between two of them log(length) runs linearly.

    Lengths spread over three decades with a long tail, so a chord in length itself would lie above
    the curve: its means are up to 1.4 % high, those in log(length) at most 0.7 %.
    """

    levels: tuple[float, ...]
    quantiles: tuple[float, ...]

    def lengths(self, levels: NDArray[np.float64]) -> NDArray[np.int64]:
        lengths: NDArray[np.int64] = np.rint(self.values(levels)).astype(np.int64)
        return lengths

    def values(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values at these levels, not rounded.  # [n] -> [n]"""
        return np.exp(np.interp(levels, self.levels, np.log(self.quantiles)))


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Log-normal lengths of a mean, from 1 to `longest`."""

    mean: float
    sigma: float
    longest: int

    def lengths(self, levels: NDArray[np.float64]) -> NDArray[np.int64]:
        normal = NormalDist(math.log(self.mean) - self.sigma**2 / 2, self.sigma)
        inner = levels.clip(1e-12, 1 - 1e-12).tolist()  # the inverse has no value at 0 and 1
        logs = np.array([normal.inv_cdf(level) for level in inner])
        lengths: NDArray[np.int64] = np.rint(np.exp(logs)).clip(1, self.longest).astype(np.int64)
        return lengths


@dataclass(frozen=True, slots=True)
class LengthModel:
    """Prompt and output lengths together.

    Attributes:
        correlation: that of the normal scores of prompt and output.
        max_total: most tokens of prompt and output.
        source: the source of the distribution, in words.
    """

    prompt: Marginal
    output: Marginal
    correlation: float
    max_total: int
    source: str


def length_model(name: str) -> LengthModel:
    """The distribution behind a name of `SETS`.

    Raises:
        TraceError: there is no such name.
    """
    if name == "synthetic":
        marginal = LogNormal(SYNTHETIC_MEAN, SYNTHETIC_SIGMA, SYNTHETIC_MAX)
        shape = f"mean {SYNTHETIC_MEAN:g} and sigma {SYNTHETIC_SIGMA:g}"
        source = f"log-normal prompts and outputs, invented, both of {shape}"
        return LengthModel(marginal, marginal, 0.0, 2 * SYNTHETIC_MAX, source)
    if name not in TABLES:
        raise unknown_name("set of lengths", name, SETS)
    content = json.loads(traces_folder().joinpath("distributions.json").read_text(encoding="utf-8"))
    table = content["sets"][TABLES[name]]
    levels = tuple(percent / 100 for percent in content["quantile_levels_percent"])
    return LengthModel(
        prompt=QuantileTable(levels, tuple(table["prompt"]["quantiles"])),
        output=QuantileTable(levels, tuple(table["output"]["quantiles"])),
        correlation=table["normal_score_correlation"],
        max_total=table["max_total"],
        source=table["source"],
    )


def synthesize(name: str, num_rows: int, seed: int) -> list[Row]:
    """Sample rows of lengths.

    Both marginals are stratified: one sample from each of `num_rows` equal slices, so means hardly depend
    on the seed. The ranks of two correlated normals assign slices to rows, which sets the correlation and
    shuffles the rows.

    Raises:
        TraceError: the name is unknown, or the number of rows or the seed is impossible.
    """
    if not 1 <= num_rows <= MAX_ROWS:
        raise TraceError(f"the number of rows is {num_rows}, but must be 1 to {MAX_ROWS:,}")
    return lengths_of(length_model(name), num_rows, generator(seed, Stream.LENGTHS))


def lengths_of(model: LengthModel, num_rows: int, numbers: np.random.Generator) -> list[Row]:
    """Rows of a model; see `synthesize`."""
    scores = numbers.standard_normal((2, num_rows))  # [prompt or output, num_rows]
    scores[1] = model.correlation * scores[0] + math.sqrt(1 - model.correlation**2) * scores[1]
    ranks = scores.argsort(axis=1).argsort(axis=1)  # [2, num_rows]
    levels = (ranks + numbers.random((2, num_rows))) / num_rows  # [2, num_rows], one in each slice
    prompts = model.prompt.lengths(levels[0])
    outputs = model.output.lengths(levels[1])
    return _fitted(prompts.tolist(), outputs.tolist(), model.max_total, numbers)


def _fitted(
    prompts: list[int], outputs: list[int], max_total: int, numbers: np.random.Generator
) -> list[Row]:
    """Pair the lengths so that no row exceeds `max_total`: a row too long swaps outputs with another.

    The real rows were filtered by their total, so their marginals hold enough short outputs. Cutting
    instead would put 1 % of ShareGPT's rows at exactly the limit (really 0.005 %) and lower its mean output
    by 1 %. A row without a partner, as may happen among few rows, is cut.
    """
    for row, prompt_len in enumerate(prompts):
        if prompt_len + outputs[row] <= max_total:
            continue
        for other in numbers.integers(len(prompts), size=MAX_TRIES).tolist():
            if prompt_len + outputs[other] <= max_total and prompts[other] + outputs[row] <= max_total:
                outputs[row], outputs[other] = outputs[other], outputs[row]
                break
        else:
            outputs[row] = max_total - prompt_len
    return [Row(prompt_len, output_len) for prompt_len, output_len in zip(prompts, outputs, strict=True)]
