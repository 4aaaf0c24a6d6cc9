"""Choice: one growing reply: its text, and where a stop string ends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.tools.serve.live_request import NewTokens
    from pagedbench.tools.serve.texts import Growing

LENGTH, STOP = "length", "stop"


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a reply, as it is sent to a client."""

    text: str
    token_ids: list[int]
    logprobs: list[float]

    def __add__(self, after: Piece) -> Piece:
        return Piece(
            self.text + after.text, self.token_ids + after.token_ids, self.logprobs + after.logprobs
        )


@dataclass(slots=True)
class Choice:
    """One reply.

    Attributes:
        finish_reason: None while the reply is incomplete.
        stop_reason: the stop string or stop token that ended it; None: the model's own end.
        num_tokens: includes the token that ended it.
    """

    growing: Growing
    stop: tuple[str, ...]
    eos_ids: tuple[int, ...]
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    num_tokens: int = 0
    _held: str = ""  # text that may be the beginning of a stop string, and is not sent yet
    _longest: int = field(init=False)

    def __post_init__(self) -> None:
        self._longest = max(map(len, self.stop), default=0)

    def feed(self, new: NewTokens, *, is_last: bool) -> Piece:
        """Add tokens; those after a stop string are dropped. `is_last`: no more will follow."""
        number = len(new.token_ids)
        shown = new.token_ids[:-1] if new.has_stopped else new.token_ids  # without a stop token's text
        if self.stop:
            text, num_read = self._feed_one_by_one(shown)
            number = num_read if self.finish_reason is not None else number
        else:
            text = self.growing.feed(shown)
        self.num_tokens += number
        if self.finish_reason is None and (new.has_stopped or is_last):
            text += self._without_stop(self.growing.rest())
            text, self._held = text + self._held, ""
            self._end(new)
        return Piece(text, new.token_ids[:number], new.logprobs[:number])

    def _feed_one_by_one(self, token_ids: list[int]) -> tuple[str, int]:
        """The text up to a stop string, and the number of its tokens."""
        text = ""
        for number, token in enumerate(token_ids, start=1):
            text += self._without_stop(self.growing.feed([token]))
            if self.finish_reason is not None:
                return text, number
        return text, len(token_ids)

    def _end(self, new: NewTokens) -> None:
        """End the reply; its last text may contain a stop string."""
        if self.finish_reason is not None:
            return
        self.finish_reason = STOP if new.has_stopped else LENGTH
        if new.has_stopped and new.token_ids[-1] not in self.eos_ids:
            self.stop_reason = new.token_ids[-1]

    def _without_stop(self, text: str) -> str:
        """The text that can be sent after `text` was added."""
        if not self.stop:
            return text
        self._held += text
        found = [(at, item) for item in self.stop if (at := self._held.find(item)) >= 0]
        if found:
            at, self.stop_reason = min(found)
            self.finish_reason = STOP
            out, self._held = self._held[:at], ""
            return out
        num_held = next(
            n
            for n in range(min(self._longest - 1, len(self._held)), -1, -1)
            if not n or any(item.startswith(self._held[-n:]) for item in self.stop)
        )
        cut = len(self._held) - num_held
        out, self._held = self._held[:cut], self._held[cut:]
        return out
