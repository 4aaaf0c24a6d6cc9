"""LiveRequest: a client's prompt in the engine, and its tokens on their way back to the client."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pagedbench.request import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.request import Request, Sequence, SequenceGroup


@dataclass(frozen=True, slots=True)
class NewTokens:
    """The new tokens of one sequence.

    Attributes:
        index: the reply's index among those to its prompt.
        logprobs: one per token; 0.0 if they are not computed.
        has_stopped: the last token is a stop token, which ends the reply.
    """

    index: int
    token_ids: list[int]
    logprobs: list[float]
    has_stopped: bool


@dataclass(frozen=True, slots=True)
class Update:
    """The result of an iteration for one request.

    Attributes:
        status: how it left; None: it continues.
        reason: why it failed.
    """

    tokens: list[NewTokens]
    status: Status | None = None
    num_cached: int = 0
    reason: str = ""


@dataclass(slots=True)
class Inbox:
    """The unread updates of one HTTP request; the engine never waits for the reader.

    A slow reader finds all that arrived in the meantime, at most `max_tokens` per sequence.

    Attributes:
        pass_on: sends an update immediately, without waking the reader; returns False if it cannot.
    """

    pass_on: Callable[[int, Update], bool] | None = None
    _updates: list[tuple[int, Update]] = field(default_factory=list)  # with the number of the prompt
    _error: Exception | None = None
    _waiter: asyncio.Future[None] | None = None

    def put(self, prompt: int, update: Update) -> None:
        """Add an update; called in the event loop."""
        try:
            if self._is_awaited and self.pass_on is not None and self.pass_on(prompt, update):
                return
        except Exception as error:  # it ends this request alone
            self.interrupt(error)
        self._updates.append((prompt, update))
        self._wake()

    def interrupt(self, error: Exception) -> None:
        """End with an error: no more updates will arrive."""
        self._error = error
        self._wake()

    async def take(self) -> list[tuple[int, Update]]:
        """Wait until there are updates, and take all of them.

        Raises:
            Refusal: no more will arrive.
        """
        if not self._updates and self._error is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error
        updates, self._updates = self._updates, []
        return updates

    @property
    def _is_awaited(self) -> bool:
        """Does the reader wait, with all earlier updates sent? Then the order is kept."""
        return self._waiter is not None and not self._waiter.done()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(slots=True)
class LiveRequest:
    """One prompt in the engine.

    Attributes:
        prompt: its number in the HTTP request.
        num_returned: replies that the client gets; the others of `width` are only candidates.
        is_watched: the client wants tokens as they are generated; otherwise it is only told of the end.
        admit_time, token_time: when it was first admitted, and when it last got tokens.
        num_positions: decided output positions.
    """

    request: Request
    inbox: Inbox
    prompt: int
    num_returned: int
    is_watched: bool
    admit_time: float | None = None
    first_time: float | None = None
    token_time: float = 0.0
    num_positions: int = 0
    _sent: list[int] = field(default_factory=list)  # delivered tokens of each sequence
    _logprobs: list[float] = field(default_factory=list)  # the sum over those tokens

    @property
    def request_id(self) -> int:
        return self.request.request_id

    def new_tokens(self, group: SequenceGroup) -> list[NewTokens]:
        """The tokens since the last call."""
        if not self._sent:
            self._sent, self._logprobs = [0] * group.num_sequences, [0.0] * group.num_sequences
        found = []
        for index, sequence in enumerate(group.sequences):
            start = self._sent[index]
            if start < len(sequence.output_ids):
                token_ids = sequence.output_ids[start:]
                gained = sequence.cumulative_logprob - self._logprobs[index]
                self._sent[index] += len(token_ids)
                self._logprobs[index] = sequence.cumulative_logprob
                # One token per iteration; for several together only the sum is known.
                logprobs = [gained / len(token_ids)] * len(token_ids)
                found.append(NewTokens(index, token_ids, logprobs, sequence.has_stopped))
        return found

    def all_tokens(self, group: SequenceGroup) -> list[NewTokens]:
        """The returned replies; if there are more candidates, the best first."""
        return [
            NewTokens(
                index, list(sequence.output_ids), [0.0] * len(sequence.output_ids), sequence.has_stopped
            )
            for index, sequence in enumerate(self._returned(group))
        ]

    def _returned(self, group: SequenceGroup) -> list[Sequence]:
        if group.request.sampling.beam_width is None and self.num_returned < group.num_sequences:
            best = sorted(group.sequences, key=_mean_logprob, reverse=True)
            return best[: self.num_returned]
        return group.sequences[: self.num_returned]  # beams are in order


def _mean_logprob(sequence: Sequence) -> float:
    return sequence.cumulative_logprob / max(len(sequence.output_ids), 1)


def failed(reason: str) -> Update:
    """The update of a request that the engine did not serve."""
    return Update([], Status.FAILED, reason=reason)
