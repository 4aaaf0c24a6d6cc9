"""The endpoint: its paths, access control, and how replies are sent."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import sys
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pagedbench.tools.serve.answer import Answer
from pagedbench.tools.serve.connection import CONNECTION, RECEIVED
from pagedbench.tools.serve.documents import DONE, encoded, event
from pagedbench.tools.serve.exchange import Bodies, document_of, part, refused, response, start
from pagedbench.tools.serve.exposition import CONTENT_TYPE, metrics_text
from pagedbench.tools.serve.question import chat, completion
from pagedbench.tools.serve.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request as HttpRequest
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from pagedbench.tools.serve.connection import Connection
    from pagedbench.tools.serve.engine_thread import EngineThread
    from pagedbench.tools.serve.question import Question
    from pagedbench.tools.serve.served_model import ServedModel

LARGE_BODY = 2**14
"""A body with at least this many bytes is turned into tokens in another thread than the event loop's."""

WRONG_KEY = Refusal(
    401,
    "the API key is missing or wrong: send it as Authorization: Bearer KEY",
    code="invalid_api_key",
    headers=(("www-authenticate", "Bearer"),),
    closes=True,
)


class Endpoint:
    """The ASGI application, and the open replies."""

    def __init__(
        self, model: ServedModel, engine: EngineThread, *, max_queue: int, api_key: str | None = None
    ) -> None:
        """`max_queue`: the most requests that wait for admission."""
        self.model = model
        self.engine = engine
        self.is_closing = False
        self.num_connections: Callable[[], int] = lambda: 0
        self._max_queue = max_queue
        self._api_key = None if api_key is None else api_key.encode()
        self._answers: set[Answer] = set()
        self._bodies = Bodies()
        self.app = self._guarded(
            Starlette(
                routes=[
                    Route("/v1/completions", _Post(self, completion), methods=["POST"]),
                    Route("/v1/chat/completions", _Post(self, chat), methods=["POST"]),
                    Route("/v1/models", self._models),
                    Route("/v1/models/{name:path}", self._one_model),
                    Route("/health", self._health),
                    Route("/metrics", self._metrics),
                ],
                exception_handlers={404: _no_such_path, 405: _wrong_method},
            )
        )

    def interrupt_all(self) -> None:
        """End all open replies with an error."""
        for answer in list(self._answers):
            answer.interrupt(_closing())

    def _guarded(self, app: ASGIApp) -> ASGIApp:
        """The application with the check of the API key, which paths below /v1 need."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            is_open = scope["type"] != "http" or not scope["path"].startswith("/v1")
            if is_open or self._is_allowed(scope):
                await app(scope, receive, send)
            else:
                with contextlib.suppress(Refusal):
                    await self._bodies.discard(receive)  # so that the client reads the refusal
                await refused(WRONG_KEY, send)

        return guarded

    def _is_allowed(self, scope: Scope) -> bool:
        if self._api_key is None:
            return True
        kind, _, key = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return hmac.compare_digest(key.strip(), self._api_key) and kind.lower() == b"bearer"

    async def _models(self, request: HttpRequest) -> Response:
        return JSONResponse({"object": "list", "data": [self.model.card]})

    async def _one_model(self, request: HttpRequest) -> Response:
        if request.path_params["name"] in self.model.names:
            return JSONResponse(self.model.card)
        unknown = Refusal(404, "there is no such model", "model", "model_not_found")
        return JSONResponse(unknown.document, 404)

    async def _health(self, request: HttpRequest) -> Response:
        is_well = self.engine.crash is None and not self.is_closing
        return Response(status_code=200 if is_well else 503)

    async def _metrics(self, request: HttpRequest) -> Response:
        text = metrics_text(self.engine.statistics, self.model.names[0], self.num_connections())
        return Response(text, media_type=CONTENT_TYPE)

    async def answer(
        self, read: Callable[[Any, ServedModel], Question], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer one request; `read` turns the document in its body into a question."""
        try:
            async with self._bodies.read(receive) as body:
                age = asyncio.get_running_loop().time() - scope["state"][RECEIVED]
                arrival = max(self.engine.now - age, 0.0)
                self._check_room(1)  # before working on a question that would be refused
                question = await self._question(read, body)
            self._check_room(len(question.prompts))
        except Refusal as refusal:
            await refused(refusal, send)
            return
        answer = Answer(question, self.model, self.engine, arrival)
        self._answers.add(answer)
        watch = asyncio.create_task(self._give_up_when_gone(answer, receive))
        try:
            if question.streams:
                await self._stream(answer, send, scope["state"][CONNECTION])
            else:
                await self._whole(answer, send)
        finally:
            answer.give_up()
            self._answers.discard(answer)
            watch.cancel()

    async def _question(self, read: Callable[[Any, ServedModel], Question], body: bytes) -> Question:
        if len(body) < LARGE_BODY:
            return read(document_of(body), self.model)
        return await asyncio.to_thread(lambda: read(document_of(body), self.model))

    def _check_room(self, num_prompts: int) -> None:
        """Refuse prompts that exceed the queue. While it is empty, any request may wait."""
        if self.is_closing:
            raise _closing()
        if self.engine.crash is not None:
            raise Refusal(500, f"the engine has crashed with {self.engine.crash}")
        waiting = self.engine.num_pending
        if waiting and waiting + num_prompts > self._max_queue:
            raise Refusal(
                429,
                f"{waiting} requests wait already, and the queue has room for {self._max_queue}",
                code="queue_full",
                headers=(("retry-after", "1"),),
            )

    async def _give_up_when_gone(self, answer: Answer, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        answer.give_up()
        answer.interrupt(Refusal(400, "the client has gone"))

    async def _whole(self, answer: Answer, send: Send) -> None:
        try:
            document = await answer.whole()
        except Refusal as refusal:
            await refused(refusal, send)
            return
        for message in response(200, encoded(document)):
            await send(message)

    async def _stream(self, answer: Answer, send: Send, connection: Connection) -> None:
        """Send new pieces whenever the client has taken the previous ones."""
        try:
            pieces = await answer.next_pieces()
        except Refusal as refusal:  # nothing was sent, so it can still have a status code
            await refused(refusal, send)
            return
        await send(start(200, "text/event-stream", (("cache-control", "no-cache"),)))
        try:
            while answer.is_open:
                await send(part(answer.events(pieces)))
                answer.pass_on(connection)
                pieces = await answer.next_pieces()
            body = answer.events(pieces)
        except Refusal as refusal:
            body = event(refusal.document)
        await send(part(body + DONE, is_last=True))


def _closing() -> Refusal:
    return Refusal(503, "the server is shutting down", headers=(("retry-after", "10"),), closes=True)


class _Post:
    """The ASGI application of one path."""

    def __init__(self, endpoint: Endpoint, read: Callable[[Any, ServedModel], Question]) -> None:
        self._endpoint = endpoint
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._endpoint.answer(self._read, scope, receive, noting)
        except Exception as error:
            print(
                f"Error: a request has failed with {type(error).__name__}: {error}",
                file=sys.stderr,
                flush=True,
            )
            if has_begun:
                raise  # which breaks off the connection within the reply
            await refused(Refusal(500, "the server failed on this request"), send)


async def _no_such_path(request: HttpRequest, error: Exception) -> Response:
    return JSONResponse(Refusal(404, f"there is nothing at {request.url.path}").document, 404)


async def _wrong_method(request: HttpRequest, error: Exception) -> Response:
    return JSONResponse(Refusal(405, f"{request.url.path} does not take {request.method}").document, 405)
