"""Dividing the time of each iteration among decodes, prompts, swaps and copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class StepSplit:
    """Seconds of every iteration, by what they were spent on; they sum to its duration.

    Attributes:
        fitted_share: the share of all time that lies in iterations of more than one kind of work, whose
            division is a fit.
        fit_error: the median relative error of the fit on those iterations; None without any.
    """

    decode: NDArray[np.float64]  # [num_steps]
    prefill: NDArray[np.float64]  # [num_steps]
    swap: NDArray[np.float64]  # [num_steps]
    copy: NDArray[np.float64]  # [num_steps]
    fitted_share: float
    fit_error: float | None


def split_steps(steps: Mapping[str, NDArray[np.float64]]) -> StepSplit:
    """Divide each iteration's time. `steps`: columns of steps.csv.

    All the time of an iteration with one kind of work goes to that kind. The others are divided in the
    proportions of a least-squares fit to the run's own iterations. Its terms are a constant, decodes and
    the tokens that they read, prompt tokens, blocks swapped, and copies. The constant goes to the decodes,
    or to the prompts where no sequence decodes.
    """
    duration = steps["step_ms"] / 1000
    context = np.maximum(steps["kv_token_states"] + steps["kv_shared"] - steps["prefill_tokens"], 0)
    swapped = steps["blocks_swapped_in"] + steps["blocks_swapped_out"]
    decodes = steps["decode_tokens"] > 0
    terms = (
        np.ones(len(duration)),
        steps["decode_tokens"],
        np.where(decodes, context, 0.0),
        steps["prefill_tokens"],
        swapped,
        steps["cow_copies"],
    )
    work = np.stack(terms, axis=1)  # [num_steps, 6]
    constant, decode, reading, prefill, swap, copy = (work * _non_negative_fit(work, duration)).T
    decode = decode + reading + np.where(decodes, constant, 0.0)
    prefill = prefill + np.where(decodes, 0.0, constant)
    parts = np.stack((decode, prefill, swap, copy), axis=1)  # [num_steps, 4]
    predicted = parts.sum(axis=1)
    whole = np.where(decodes, 0, 1)  # the kind that gets all the time where the fit says nothing
    parts = np.where(predicted[:, None] > 0, parts, np.eye(4)[whole])
    kinds = np.stack([decodes, steps["prefill_tokens"] > 0, swapped > 0, steps["cow_copies"] > 0], axis=1)
    is_mixed = kinds.sum(axis=1) > 1
    decode, prefill, swap, copy = (duration[:, None] * parts / parts.sum(axis=1, keepdims=True)).T
    errors = np.abs(predicted - duration)[is_mixed] / duration[is_mixed]
    total = float(duration.sum())
    return StepSplit(
        decode=decode,
        prefill=prefill,
        swap=swap,
        copy=copy,
        fitted_share=float(duration[is_mixed].sum()) / total if total > 0 else 0.0,
        fit_error=float(np.median(errors)) if len(errors) else None,
    )


def _non_negative_fit(work: NDArray[np.float64], duration: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds per unit of each term, none below 0, by least squares.  # [num_terms]"""
    from scipy.optimize import nnls

    scale = np.maximum(work.max(axis=0), 1.0)  # tokens are thousands, copies few
    coefficients: NDArray[np.float64] = nnls(work / scale, duration)[0] / scale
    return coefficients
