"""The lengths that the figures replay: the paper's own from files, or sampled ones without a file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.workload.dataset import load_dataset
from pagedbench.workload.rows import Row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagedbench.workload.dataset import Dataset

SHAREGPT, ALPACA, CHAT, TRANSLATION = "sharegpt", "alpaca", "sharegpt-8k", "wmt16"
WITH_BLOCKS = ("conversation", "synthetic")
"""Mooncake's traces, whose prompts are block ids; they are not bundled."""

FROM_FILES = (SHAREGPT, ALPACA, CHAT, *WITH_BLOCKS)
"""Data sets for which a file may be given."""

MEAN_SOURCE, MEAN_TARGET = 27.0, 35.0
SENTENCE_SIGMA = 0.55
LONGEST_SENTENCE = 200
"""Tokens of an English sentence of WMT16 and of its German translation, log-normal: an assumption.

The paper does not print them. Sentences of news have about 20 words; an English word is about 1.3 tokens of
LLaMA's tokenizer, a German one more. Fig. 16 shows the results with half and twice these lengths.
"""


@dataclass(frozen=True, slots=True)
class Lengths:
    """The data sets of one reproduction.

    Attributes:
        files: (name, path) of data sets that are read from a file.
    """

    files: tuple[tuple[str, str], ...] = ()

    def rows(self, name: str) -> tuple[Row, ...]:
        """The rows of a data set, in file order.

        Raises:
            TraceError: its file cannot be read.
        """
        return self._dataset(name).rows

    def datasets(self) -> dict[tuple[str, str], Dataset]:
        """The data sets from files, for `receive`."""
        return {(name, path): _load(name, path) for name, path in self.files}

    def has_file(self, name: str) -> bool:
        return name in dict(self.files)

    def are_drawn(self, name: str) -> bool:
        return self._dataset(name).synthetic

    def source(self, name: str) -> str:
        """The source of the lengths, in a sentence."""
        return self._dataset(name).source

    def _dataset(self, name: str) -> Dataset:
        return _load(name, dict(self.files).get(name))


_RECEIVED: dict[tuple[str, str], Dataset] = {}
"""Name and path -> data set, of files that may be on another machine."""


def receive(datasets: Mapping[tuple[str, str], Dataset]) -> None:
    """Store data sets that another process has read."""
    _RECEIVED.update(datasets)


def _load(name: str, path: str | None) -> Dataset:
    found = None if path is None else _RECEIVED.get((name, path))
    return found or _read(name, path)


@cache
def _read(name: str, path: str | None) -> Dataset:
    return load_dataset(path or name)


MIXED_ROUNDS = 20_000


def mixed_rounds(lengths: Lengths, new_share: float, long_len: int, seed: int = 0) -> list[Row]:
    """Rounds of a chat: first turns of ShareGPT, and rounds of conversations of `long_len` tokens or more.

    `new_share`: the share of first turns.
    """
    first, later = lengths.rows(SHAREGPT), [row for row in lengths.rows(CHAT) if row.prompt_len >= long_len]
    draws = np.random.default_rng(seed)
    is_new = draws.random(MIXED_ROUNDS) < new_share
    picks = draws.random(MIXED_ROUNDS)
    return [
        first[int(pick * len(first))] if new else later[int(pick * len(later))]
        for new, pick in zip(is_new.tolist(), picks.tolist(), strict=True)
    ]


def translation_rows(number: int, scale: float, seed: int = 0) -> list[Row]:
    """Pairs of sentences with `scale` times the assumed lengths; a long source has a long translation."""
    draws = np.random.default_rng(seed).random((number, 2)).clip(1e-9, 1 - 1e-9)

    def lengths(mean: float, levels: list[float], sigma: float) -> list[int]:
        normal = NormalDist(math.log(mean) - sigma**2 / 2, sigma)
        return [min(max(round(math.exp(normal.inv_cdf(u))), 1), LONGEST_SENTENCE) for u in levels]

    sources = lengths(scale * MEAN_SOURCE, draws[:, 0].tolist(), SENTENCE_SIGMA)
    stretch = lengths(100 * MEAN_TARGET / MEAN_SOURCE, draws[:, 1].tolist(), 0.15)
    return [
        Row(source, min(max(round(source * percent / 100), 1), LONGEST_SENTENCE))
        for source, percent in zip(sources, stretch, strict=True)
    ]
