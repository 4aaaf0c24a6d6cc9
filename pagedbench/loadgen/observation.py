"""Observation: one request of a trace as its client saw it, whatever the server's API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pagedbench.loadgen.wire import Failure


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One request as seen from outside. Times in seconds from the start of the run.

    Attributes:
        scheduled: when it should have been sent; latencies are counted from here.
        sent: when its last byte was sent; NaN if it never was.
        chunk_times: when each chunk of the reply that brought tokens arrived.  # [num_chunks]
        chunk_tokens: tokens in each chunk; None if the API does not say.  # [num_chunks]
        finish: when the reply had ended.
        prompt_len, output_len: by the server's own count (`usage`); None if it gives none.
        num_cached: prompt tokens that the server found in its cache; None if it does not report them.
        text: the text of the reply.
        token_ids: the token ids of the reply, if the API returns them; otherwise None.
        failure: why there is no complete reply; None: there is one.
        detail: details of a failure, in a few words.
    """

    request_id: int
    scheduled: float
    sent: float
    chunk_times: NDArray[np.float64]
    chunk_tokens: NDArray[np.int64] | None
    finish: float
    prompt_len: int | None = None
    output_len: int | None = None
    num_cached: int | None = None
    text: str = ""
    token_ids: tuple[int, ...] | None = None
    failure: Failure | None = None
    detail: str = ""
