"""What kept the head of the queue out of an iteration: the scheduler's tests, repeated on its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.memory.paged import WATERMARK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

CAUSES = ("no_memory", "fragmentation", "sequence_limit", "token_limit", "closed_batch", "unknown")
"""Of waiting. Memory is fragmented if the free slots could hold the head's prompt and its whole reply, but
the manager, which gives single pieces and reserves ahead, could not."""


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """What admission asked for in a run.

    Attributes:
        memory: "paged", "contiguous", or "unknown" (a manager of the user's own).
        is_request_level: nobody joins a batch that runs.
        shares_iterations: prompts and decodes share the token budget of an iteration.
    """

    memory: str
    is_request_level: bool
    shares_iterations: bool
    num_slots: int
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The head of the queue in every iteration: the earliest request that was never admitted.

    Where there is none, the values mean nothing.
    """

    prompt_len: NDArray[np.int64]  # [num_steps]
    output_len: NDArray[np.int64]  # [num_steps]
    num_sequences: NDArray[np.int64]  # [num_steps]


def causes_of_waiting(
    rules: AdmissionRules,
    steps: Mapping[str, NDArray[np.float64]],
    head: Head,
    *,
    num_sequences: NDArray[np.float64],
    has_preempted: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """The index in CAUSES of what kept the head out of each iteration.  # [num_steps]

    The tests come in the scheduler's order: preempted groups first, then the limits, then memory.

    Args:
        steps: columns of steps.csv.
        num_sequences: that run in each iteration.
        has_preempted: a group waits to be recomputed, ahead of all that were never admitted.
    """
    if rules.is_request_level:
        return np.full(len(steps["t_s"]), CAUSES.index("closed_batch"))
    preempting = steps["preemptions_recompute"] + steps["preemptions_swap"] + steps["swapped"] > 0
    fills_memory = preempting | has_preempted
    is_fragmented, is_short = _memory_refuses(rules, steps, head)
    tests = (
        ("no_memory", fills_memory),
        ("sequence_limit", num_sequences + head.num_sequences > rules.max_num_seqs),
        ("token_limit", _is_beyond_budget(rules, steps, head)),
        ("fragmentation", is_fragmented),
        ("no_memory", is_short),
    )
    found = np.select(
        [holds for _, holds in tests],
        [CAUSES.index(name) for name, _ in tests],
        default=CAUSES.index("unknown"),
    )
    return found.astype(np.int64)


def _is_beyond_budget(
    rules: AdmissionRules, steps: Mapping[str, NDArray[np.float64]], head: Head
) -> NDArray[np.bool_]:
    """A prompt above the whole budget is admitted when it is the iteration's only one."""
    prefilled = steps["prefill_tokens"]
    used = prefilled + (steps["decode_tokens"] if rules.shares_iterations else 0)
    budget = rules.max_num_batched_tokens
    is_admitted_alone: NDArray[np.bool_] = (prefilled == 0) & (head.prompt_len > budget)
    return (used + head.prompt_len > budget) & ~is_admitted_alone


def _memory_refuses(
    rules: AdmissionRules, steps: Mapping[str, NDArray[np.float64]], head: Head
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Did the manager refuse although the free slots would do, and did it because they would not?

    Paged memory has no fragments: it refuses if the prompt's blocks would touch the watermark. Others
    leave their refusal in the table, as free slots that were unusable, or as no free slot at all.
    """
    free, unusable = steps["kv_free"], steps["kv_unusable"]
    if rules.memory == "paged":
        blocks = -(-head.prompt_len // rules.block_size)
        watermark = int(WATERMARK * (rules.num_slots // rules.block_size))
        return np.zeros(len(free), dtype=bool), free // rules.block_size - blocks < watermark
    wanted = head.num_sequences * (head.prompt_len + head.output_len)
    has_refused = (unusable > 0) | (free == 0)
    return has_refused & (unusable >= wanted), has_refused & (unusable < wanted)
