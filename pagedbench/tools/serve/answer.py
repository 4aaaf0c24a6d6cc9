"""Answer: one HTTP request, from its question to the last byte of its reply."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pagedbench.prompt import Prompt
from pagedbench.request import Request, Status
from pagedbench.tools.serve.choice import STOP, Choice, Piece
from pagedbench.tools.serve.documents import Documents, Usage, Whole, token_name
from pagedbench.tools.serve.live_request import Inbox, LiveRequest, NewTokens
from pagedbench.tools.serve.refusal import Refusal

if TYPE_CHECKING:
    from pagedbench.tools.serve.connection import Connection
    from pagedbench.tools.serve.engine_thread import EngineThread
    from pagedbench.tools.serve.live_request import Update
    from pagedbench.tools.serve.question import Question
    from pagedbench.tools.serve.served_model import ServedModel

_request_ids = itertools.count()


class Answer:
    """The reply to one question, as far as it is known so far."""

    def __init__(
        self, question: Question, model: ServedModel, engine: EngineThread, arrival: float
    ) -> None:
        """Submit the question to the engine. `arrival`: its time in seconds of the engine's clock."""
        self.usage = Usage(sum(map(len, question.prompts)))
        self._question = question
        self._engine = engine
        self._inbox = Inbox()
        self._documents = Documents(
            model.names[0],
            is_chat=question.is_chat,
            has_logprobs=question.num_logprobs is not None,
            returns_token_ids=question.returns_token_ids,
            name_of=token_name if question.names_tokens_by_id else model.texts.name_of,
        )
        # The replies to each prompt, one prompt after another.
        self._choices = [
            Choice(model.texts.growing(prompt), question.stop, model.eos_ids)
            for prompt in question.prompts
            for _ in range(question.num_returned)
        ]
        self._has_begun = [False] * len(self._choices)
        self._num_cached = [0] * len(question.prompts)
        self._open = {
            number: self._live_request(number, arrival) for number in range(len(question.prompts))
        }
        for live in self._open.values():
            engine.submit(live)

    @property
    def is_open(self) -> bool:
        """Is the reply still incomplete?"""
        return bool(self._open)

    def give_up(self) -> None:
        """Abort the request because the client has gone: the engine frees its memory."""
        for live in self._open.values():
            self._engine.cancel(live)
        self._open = {}
        self._inbox.pass_on = None  # it holds this answer and the connection

    def interrupt(self, error: Refusal) -> None:
        """End the reply with an error, for clients that wait for the rest."""
        self._inbox.interrupt(error)

    async def next_pieces(self) -> list[tuple[int, Piece]]:
        """The new pieces since the last call, each with the index of its choice; waits for at least one.

        Raises:
            Refusal: the engine did not serve the request, or the server is shutting down.
        """
        pieces: dict[int, Piece] = {}
        for number, update in await self._inbox.take():
            if update.status is Status.FAILED:
                raise Refusal(400 if self._engine.crash is None else 500, update.reason)
            for index, piece in self._take_in(number, update):
                pieces[index] = pieces[index] + piece if index in pieces else piece
        return list(pieces.items())

    def events(self, pieces: list[tuple[int, Piece]]) -> bytes:
        """The pieces as events of a stream; after the last ones the usage, if the client wants it."""
        body = b"".join(self._event(index, piece) for index, piece in pieces)
        if not self.is_open and self._question.includes_usage:
            body += self._documents.usage_chunk(self.usage)
        return body

    def pass_on(self, connection: Connection) -> None:
        """From now on send updates immediately while the client keeps up; the rest is for `next_pieces`."""

        def send(number: int, update: Update) -> bool:
            if update.status is not None or not connection.is_writable:
                return False
            connection.write_part(self.events(self._take_in(number, update)))
            return True

        if not self._question.stop:  # a stop string may end the reply in any update
            self._inbox.pass_on = send

    async def whole(self) -> dict[str, object]:
        """The document of the whole reply. Raises the errors of `next_pieces`."""
        wholes = [Whole() for _ in self._choices]
        while self.is_open:
            for index, piece in await self.next_pieces():
                wholes[index].add(piece)
        prompts = [prompt for prompt in self._question.prompts for _ in range(self._question.num_returned)]
        return self._documents.whole(list(zip(self._choices, wholes, prompts, strict=True)), self.usage)

    def _live_request(self, number: int, arrival: float) -> LiveRequest:
        question, prompt = self._question, self._question.prompts[number]
        is_watched = question.streams or bool(question.stop) or question.num_logprobs is not None
        return LiveRequest(
            Request(
                next(_request_ids),
                arrival,
                Prompt(len(prompt), token_ids=prompt),
                question.samplings[number],
            ),
            self._inbox,
            number,
            question.num_returned,
            is_watched and not question.is_decided_late,
        )

    def _take_in(self, number: int, update: Update) -> list[tuple[int, Piece]]:
        """The pieces that an update adds to the replies to one prompt."""
        is_last, new_of = update.status is not None, {new.index: new for new in update.tokens}
        if update.num_cached != self._num_cached[number]:
            self._num_cached[number] = update.num_cached
            self.usage.cached_tokens = sum(self._num_cached)
        first, pieces = number * self._question.num_returned, []
        choices = self._choices[first : first + self._question.num_returned]
        for offset, choice in enumerate(choices):
            new = new_of.get(offset, NewTokens(offset, [], [], False))
            if choice.finish_reason is not None or not (new.token_ids or is_last):
                continue
            before = choice.num_tokens
            pieces.append((first + offset, choice.feed(new, is_last=is_last)))
            self.usage.completion_tokens += choice.num_tokens - before
        if all(choice.finish_reason is not None for choice in choices) and number in self._open:
            self._engine.cancel(
                self._open.pop(number), STOP
            )  # a stop string may come before the engine's end
        return pieces

    def _event(self, index: int, piece: Piece) -> bytes:
        question = self._question
        prompt = None if self._has_begun[index] else question.prompts[index // question.num_returned]
        self._has_begun[index] = True
        usage = self.usage if question.has_running_usage else None
        return self._documents.chunk(index, self._choices[index], piece, prompt=prompt, usage=usage)
