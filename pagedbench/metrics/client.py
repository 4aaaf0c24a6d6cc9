"""ClientView: what the client of a server saw besides its replies, and whether that makes a run valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.metrics.records import RunRecord

MAX_LAG = 0.010
"""Most seconds between the scheduled time of a request and its first byte in a valid run."""


@dataclass(frozen=True, slots=True, eq=False)
class SeenReply:
    """A complete reply of a server.

    Attributes:
        times: when each chunk that brought tokens arrived; there is at least one.  # [num_chunks]
        num_tokens: by the server's count; without one, the number of chunks.
        is_counted: the server gave a count.
        num_first: tokens of the first chunk: all if it is the only one, 1 if that is not known.
        has_token_times: every chunk brought one token, so gaps between chunks are gaps between tokens.
        num_cached: prompt tokens in the server's cache; None where it does not say.
    """

    times: NDArray[np.float64]
    num_tokens: int
    is_counted: bool
    has_token_times: bool
    num_first: int = 1
    num_cached: int | None = None


@dataclass(frozen=True, slots=True)
class Peak:
    """What the load generator did in its busiest seconds: requests sent, and chunks of replies read."""

    requests: float
    chunks: float

    def __str__(self) -> str:
        return f"{self.requests:,.0f} requests and {self.chunks:,.0f} chunks of replies"


def busiest_second(times: NDArray[np.float64]) -> float:
    """The most of these times that lie within one second.  # [n]"""
    ordered = np.sort(times)
    if not len(ordered):
        return 0.0
    ends = np.searchsorted(ordered, ordered + 1.0)
    return float((ends - np.arange(len(ordered))).max())


@dataclass(frozen=True, slots=True)
class Problem:
    """Requests without a complete reply, of one kind."""

    kind: str
    number: int
    example: str

    def __str__(self) -> str:
        return f"{self.number:,} {self.kind}" + (f" ({self.example})" if self.example else "")


@dataclass(frozen=True, slots=True, eq=False)
class ClientView:
    """What the client of a foreign server saw.

    Attributes:
        lags: seconds from the scheduled time of each sent request to its first byte.  # [num_sent]
        problems: what happened to the requests without a reply.
        num_other_prompts: prompts that have another length by the server's count; prompts of text, which
            may be tokenized differently, count only if they differ by more than a few tokens.
        forces_lengths: the server can be told how long replies are.
        certified: the load up to which the generator was measured; None: it was not measured.
        peak: the busiest seconds of this run.
        remarks: sentences on the generator: workers that failed, sockets that it lacked.
    """

    lags: NDArray[np.float64]
    problems: tuple[Problem, ...]
    num_other_prompts: int
    forces_lengths: bool
    certified: Peak | None
    peak: Peak
    remarks: tuple[str, ...] = ()

    @property
    def num_late(self) -> int:
        return int(np.count_nonzero(self.lags > MAX_LAG))

    @property
    def lag_sentence(self) -> str:
        """How late requests were sent, and whether the generator is certified for this rate."""
        if not len(self.lags):
            return "No request was sent."
        p50, p99, most = (1000 * value for value in np.percentile(self.lags, (50, 99, 100)))
        sentence = f"Requests were sent {p50:.2g} ms late (median; p99 {p99:.2g} ms, at most {most:.2g} ms)"
        if self.certified is None:
            return f"{sentence}. The generator is not certified on this machine (replay --certify)."
        if self.peak.requests > self.certified.requests or self.peak.chunks > self.certified.chunks:
            return (
                f"{sentence}. The busiest seconds had {self.peak}, above the {self.certified} that the "
                "generator is certified for."
            )
        return (
            f"{sentence}; the generator is certified for seconds with {self.certified}, and the busiest "
            f"here had {self.peak}."
        )


def hidden_topics(record: RunRecord) -> tuple[str, ...]:
    """Topics of the metrics of an engine's iterations, which a server's client cannot see."""
    return () if record.client is None else ("batch", "memory")


def client_reasons(record: RunRecord, view: ClientView) -> list[str]:
    """The reasons why a run against a server is not valid, as parts of a sentence."""
    reasons = []
    if view.problems:
        number = sum(problem.number for problem in view.problems)
        noun = "request" if number == 1 else "requests"
        reasons.append(f"{number:,} {noun} failed: {', '.join(map(str, view.problems))}")
    replies = [item.reply for item in record.requests if item.reply is not None]
    uncounted = sum(not reply.is_counted for reply in replies)
    if uncounted:
        reasons.append(f"the server did not count the tokens of {uncounted:,} of {len(replies):,} replies")
    if view.num_other_prompts:
        noun = "prompt has" if view.num_other_prompts == 1 else "prompts have"
        reasons.append(
            f"{view.num_other_prompts:,} {noun} another length by the server's count, cut or tokenized "
            "differently"
        )
    if view.num_late:
        share = 100 * view.num_late / len(view.lags)
        words = "request was" if view.num_late == 1 else "requests were"
        reasons.append(
            f"{view.num_late:,} {words} sent more than {1000 * MAX_LAG:g} ms late ({share:.3g} % of them)"
        )
    return reasons


def tokens_per_chunk(record: RunRecord) -> float | None:
    """Tokens of the complete replies over the chunks that they came in; None without any."""
    replies = [item.reply for item in record.requests if item.reply is not None]
    num_chunks = sum(len(reply.times) for reply in replies)
    return sum(reply.num_tokens for reply in replies) / num_chunks if num_chunks else None


def seen_hit_pct(record: RunRecord) -> float | None:
    """Percent of the prompt tokens that the server's cache held; None if the server never reports it.

    Some servers report only hits: if one reply has a count, those without a count had no hit.
    """
    hits = [item.reply.num_cached for item in record.requests if item.reply is not None]
    known = [number for number in hits if number is not None]
    total = sum(item.request.prompt_len for item in record.requests if item.reply is not None)
    return 100 * sum(known) / total if total and known else None


def num_unanswered(record: RunRecord, times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Requests that have been due by each time, have not failed and have no token.  # [n] -> [n]"""
    table = record.latencies
    due = np.sort(table.arrival)
    ends = np.array([item.finish_time for item in record.requests], dtype=np.float64)
    answered = np.sort(np.where(np.isnan(table.first_token), ends, table.first_token))
    counts = np.searchsorted(due, times, side="right") - np.searchsorted(answered, times, side="right")
    return counts.astype(np.int64)
