"""Attributing the mean latency of a run to its causes, from the tables of its requests and iterations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pagedbench.metrics.step_split import split_steps
from pagedbench.metrics.weighted_sum import weighted_sum
from pagedbench.scheduling.batch import BlockedBy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pagedbench.metrics.step_split import StepSplit

    Table: TypeAlias = Mapping[str, NDArray[np.float64]]
    """Columns by name."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of latency: its stage, its label within the stage, and what that means."""

    name: str
    stage: str
    label: str
    meaning: str


PARTS = (
    Part("queue_arriving", "queueing", "mid-step arrival", "waited for the current step to finish"),
    Part("queue_memory", "queueing", "memory", "too few slots were free, or preempted requests came first"),
    Part("queue_fragmentation", "queueing", "fragmentation", "enough slots were free, not as one piece"),
    Part("queue_sequences", "queueing", "sequence limit", "--max-num-seqs was reached"),
    Part("queue_tokens", "queueing", "token budget", "--max-num-batched-tokens was reached"),
    Part("queue_policy", "queueing", "batching policy", "a closed batch takes no request until it ends"),
    Part("queue_transfer", "queueing", "disk", "cached blocks of the prompt were read from the disk"),
    Part("queue_nothing", "queueing", "no reason", "the scheduler gave none"),
    Part("prefill", "prefill", "own prompt", "iterations that computed its prompt"),
    Part("decode", "decode", "at this batch size", "iterations that decoded it, without the next line"),
    Part("interference", "interference", "prompts of others", "what they added to those iterations"),
    Part("preempted", "preemption", "waiting again", "lost its memory, and waited to be recomputed"),
    Part("recomputed", "preemption", "recomputing", "iterations that computed it again"),
    Part("swapped", "swap", "on the host", "waited there to be swapped in"),
    Part("transfers", "swap", "transfers", "moving blocks, its own and others'"),
    Part("copies", "copies", "copies", "copying keys and values, its own and others'"),
    Part("batch_end", "end of batch", "ended early", "had all its tokens, and waited for the batch"),
    Part("between", "engine", "between iterations", "scheduling and recording"),
    Part("unaccounted", "engine", "unaccounted", "latency that the iterations do not explain"),
)  # fmt: skip
"""The parts of a request's latency, in order of its stages."""

REQUEST_COLUMNS = ("arrival_s", "admit_s", "first_token_s", "finish_s", "prompt_len", "output_len", "n",
                   "tpot_ms")  # fmt: skip
STEP_COLUMNS = ("t_s", "step_ms", "running", "waiting", "swapped", "prefill_tokens", "decode_tokens",
                "kv_token_states", "kv_free", "kv_unusable", "kv_shared", "preemptions_recompute",
                "preemptions_swap", "blocks_swapped_in", "blocks_swapped_out", "cow_copies",
                "blocked_by")  # fmt: skip
"""Columns read from requests.csv and from steps.csv; `blocked_by` as the numbers of `BlockedBy`."""

ROUNDING = 2e-9
"""Tolerance in seconds: tables have nine decimals."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where the mean end-to-end latency comes from.

    Attributes:
        seconds: part -> its mean over completed requests; they sum to `mean_latency`.
        mean_latency: seconds, arrival to finish.
        mean_ttft: seconds, arrival to first token.
        throughput: completed requests per second, from the first arrival to the last completion.
        mean_in_system: requests in the system by the iterations' counts, averaged over that time.
        fitted_share: share of the iterations' time that was divided by a fit.
        fit_error: median relative error of that fit; None where none was needed.
    """

    seconds: dict[str, float]
    num_requests: int
    mean_latency: float
    mean_ttft: float
    throughput: float
    mean_in_system: float
    fitted_share: float
    fit_error: float | None

    @property
    def stages(self) -> dict[str, float]:
        """Stage -> its mean seconds, in the order of a request's life."""
        total: dict[str, float] = {}
        for part in PARTS:
            total[part.stage] = total.get(part.stage, 0.0) + self.seconds[part.name]
        return total

    @property
    def littles_law_error(self) -> float:
        """The error of L = throughput x latency, as a share of L."""
        return abs(self.mean_in_system / (self.throughput * self.mean_latency) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Requests by state in every iteration.  # each [num_steps]"""

    queued: NDArray[np.float64]  # never admitted
    preempted: NDArray[np.float64]  # waiting to be recomputed
    swapped: NDArray[np.float64]
    starting: NDArray[np.float64]  # admitted, but without their first token
    recomputing: NDArray[np.float64]
    decoding: NDArray[np.float64]
    ended: NDArray[np.float64]  # with all their tokens, in a batch that continues


def attribute(requests: Table, steps: Table) -> Attribution:
    """Explain a complete run from the columns of its requests.csv and steps.csv.

    The requests in each state are counted in every iteration, and the counts weighted by its duration. The
    parts are as exact as the tables, except in iterations that mix kinds of work, which a fit divides.

    Raises:
        ValueError: no request completed.
    """
    is_done = np.isfinite(requests["finish_s"])
    if not is_done.any():
        raise ValueError("no request completed, so there is no latency to explain")
    order = np.lexsort((requests["arrival_s"], requests["admit_s"]))  # of service
    done = {name: column[order][is_done[order]] for name, column in requests.items()}
    counts, split = _count(done, steps), split_steps(steps)
    duration = steps["step_ms"] / 1000
    total = {
        "queue_arriving": float((_next_start(steps, done["arrival_s"]) - done["arrival_s"]).sum()),
        **_queueing(steps, counts),
        **_serving(counts, split),
        "preempted": weighted_sum(duration, counts.preempted),
        "swapped": weighted_sum(duration, counts.swapped),
        "batch_end": weighted_sum(duration, counts.ended),
        "between": _between(done, steps),
    }
    return _attribution(total, done, steps, split)


def _attribution(total: dict[str, float], done: Table, steps: Table, split: StepSplit) -> Attribution:
    """Turn request-seconds into means, with Little's law as the check."""
    num_requests = len(done["finish_s"])
    mean_latency = float(np.mean(done["finish_s"] - done["arrival_s"]))
    seconds = {part.name: total.get(part.name, 0.0) / num_requests for part in PARTS}
    seconds["unaccounted"] = mean_latency - sum(seconds.values())
    span = float(done["finish_s"].max() - done["arrival_s"].min())
    present = steps["waiting"] + steps["running"] + steps["swapped"]
    in_system = weighted_sum(steps["step_ms"], present) / 1000 + total["queue_arriving"] + total["between"]
    return Attribution(
        seconds=seconds,
        num_requests=num_requests,
        mean_latency=mean_latency,
        mean_ttft=float(np.mean(done["first_token_s"] - done["arrival_s"])),
        throughput=num_requests / span,
        mean_in_system=in_system / span,
        fitted_share=split.fitted_share,
        fit_error=split.fit_error,
    )


def _count(done: Table, steps: Table) -> _Counts:
    """Count the states in the middle of each iteration, where rounded times do not matter."""
    middle = steps["t_s"] + steps["step_ms"] / 2000
    admitted = _number_until(done["admit_s"], middle)
    queued = _number_until(done["arrival_s"], steps["t_s"] + ROUNDING) - admitted
    num_gaps = done["output_len"] - 1
    last_token = done["first_token_s"] + np.where(num_gaps > 0, done["tpot_ms"] * num_gaps / 1000, 0.0)
    starting = admitted - _number_until(done["first_token_s"], middle)
    ended = _number_until(last_token, middle) - _number_until(done["finish_s"], middle)
    serving = steps["running"] - starting - ended
    width = done["n"].max()
    # A request that runs and has its first token, but decodes nothing, is being recomputed.
    is_known = width == done["n"].min()
    recomputing = serving - steps["decode_tokens"] / width if is_known else np.zeros(len(middle))
    return _Counts(
        queued=queued,
        preempted=steps["waiting"] - queued,
        swapped=steps["swapped"],
        starting=starting,
        recomputing=recomputing,
        decoding=serving - recomputing,
        ended=ended,
    )


def _queueing(steps: Table, counts: _Counts) -> dict[str, float]:
    """Request-seconds of waiting for the first admission, by what blocked the head of the queue."""
    waited = counts.queued * steps["step_ms"] / 1000
    return {
        f"queue_{kind.name.lower()}": float(waited[steps["blocked_by"] == kind].sum()) for kind in BlockedBy
    }


def _serving(counts: _Counts, split: StepSplit) -> dict[str, float]:
    """Request-seconds of running, by what the iterations spent them on."""
    own = split.decode + split.prefill
    served = counts.starting + counts.recomputing + counts.decoding
    return {
        "prefill": weighted_sum(own, counts.starting),
        "recomputed": weighted_sum(own, counts.recomputing),
        "decode": weighted_sum(split.decode, counts.decoding),
        "interference": weighted_sum(split.prefill, counts.decoding),
        "transfers": weighted_sum(split.swap, served),
        "copies": weighted_sum(split.copy, served),
    }


def _between(done: Table, steps: Table) -> float:
    """Request-seconds between the end of an iteration and the start of the next."""
    start, end = steps["t_s"][1:], (steps["t_s"] + steps["step_ms"] / 1000)[:-1]
    handed_over = _number_until(done["arrival_s"], steps["t_s"][:-1] + ROUNDING)
    present = handed_over - _number_until(done["finish_s"], (start + end) / 2)
    return weighted_sum(np.maximum(start - end, 0.0), present)


def _next_start(steps: Table, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """The start of the first iteration at or after each time."""
    place = np.searchsorted(steps["t_s"], times - ROUNDING)
    return np.maximum(steps["t_s"][np.minimum(place, len(steps["t_s"]) - 1)], times)


def _number_until(times: NDArray[np.float64], limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of `times` are at most each limit.  # [num_limits]"""
    return np.searchsorted(np.sort(times), limits, side="right").astype(np.float64)
