"""A load that was sent to a server, and whether its replies show what a twin needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from pagedbench.loadgen.observation import Observation
    from pagedbench.workload.trace import Trace

MOST_FAILURES = 0.02
"""The share of a load's requests that may fail or have a reply of another length."""

MOST_MERGED = 1.1
"""The most tokens per chunk of a reply, if the server does not say how many each chunk has."""


@dataclass(frozen=True, slots=True, eq=False)
class SentLoad:
    """A load that was sent, and what a client saw of each request."""

    trace: Trace
    observations: tuple[Observation, ...]

    @property
    def seconds(self) -> float:
        """The time until the last reply had ended."""
        return max(item.finish for item in self.observations)

    @property
    def num_other_lengths(self) -> int:
        """How many replies have more or fewer tokens than were asked for."""
        asked = {request.request_id: request.output_len for request in self.trace.requests}
        return sum(length != asked[number] for number, length in self.lengths.items())

    @property
    def lengths(self) -> dict[int, int]:
        """Tokens of the replies that were counted, by request id."""
        return {
            item.request_id: item.output_len
            for item in self.observations
            if item.failure is None and item.output_len is not None
        }

    @property
    def served(self) -> Trace:
        """The load, with the actual lengths of its replies."""
        found = self.lengths
        requests = (
            replace(item, output_len=min(found.get(item.request_id) or item.reply_len, item.reply_len))
            for item in self.trace.requests
        )
        return replace(self.trace, requests=tuple(requests))


def refuse_unusable(sent: SentLoad) -> None:
    """Refuse replies from which no iterations can be inferred.

    Raises:
        ConfigError: too many requests failed or have replies of another length, or tokens arrive in groups
            of unknown size.
    """
    failed = [item for item in sent.observations if item.failure is not None]
    if len(failed) > MOST_FAILURES * len(sent.observations):
        first = failed[0]
        raise ConfigError(
            f"the server failed {len(failed)} of {len(sent.observations)} requests of the load "
            f"{sent.trace.name} ({first.detail or first.failure}): nothing was saved"
        )
    if sent.num_other_lengths > MOST_FAILURES * len(sent.observations):
        raise ConfigError(
            f"{sent.num_other_lengths} of {len(sent.observations)} replies of the load {sent.trace.name} "
            "are not as long as was asked for: a twin needs a server that generates max_tokens when it is "
            "told to (ignore_eos)"
        )
    blind = [item for item in sent.observations if item.chunk_tokens is None and item.output_len]
    tokens, chunks = (
        sum(item.output_len or 0 for item in blind),
        sum(len(item.chunk_times) for item in blind),
    )
    if tokens > MOST_MERGED * chunks:
        raise ConfigError(
            f"the server sent {tokens} tokens in {chunks} chunks and does not say how many each holds: a "
            "twin needs a server that sends every token by itself"
        )
