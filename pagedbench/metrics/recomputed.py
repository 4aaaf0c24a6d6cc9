"""Tokens computed a second time because a preemption took their keys and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pagedbench.scheduling.batch import PreemptionMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pagedbench.metrics.records import RunRecord
    from pagedbench.scheduling.batch import Preemption


def _returns(record: RunRecord) -> Iterator[Preemption]:
    """Preemptions whose victims came back and computed their tokens again."""
    for item in record.preemptions:
        if item.mode is PreemptionMode.RECOMPUTE and item.resumed_step is not None:
            yield item


def num_recomputed(record: RunRecord) -> int:
    """Recomputed tokens of the whole run."""
    return sum(item.tokens_lost for item in _returns(record))


def recompute_tax(record: RunRecord) -> float | None:
    """Recomputed tokens as a share of all computed ones; None if nothing was computed."""
    num_computed = int(record.steps["prefill_tokens"].sum() + record.steps["decode_tokens"].sum())
    return num_recomputed(record) / num_computed if num_computed else None


def recomputed_by_step(record: RunRecord) -> NDArray[np.int64]:
    """Recomputed tokens by the iteration in which their request came back.  # [num_steps]"""
    tokens = np.zeros(len(record.steps), dtype=np.int64)
    for item in _returns(record):
        assert item.resumed_step is not None
        tokens[item.resumed_step] += item.tokens_lost
    return tokens


def recomputed_by_request(record: RunRecord) -> NDArray[np.int64]:
    """Recomputed tokens by the request that lost them, in the order of the record.  # [num_requests]"""
    lost: dict[int, int] = {}
    for item in _returns(record):
        request_id = item.victim.request.request_id
        lost[request_id] = lost.get(request_id, 0) + item.tokens_lost
    ids = [item.request.request_id for item in record.requests]
    return np.array([lost.get(request_id, 0) for request_id in ids], dtype=np.int64)
