"""The requests of a trace as calls: encoded in advance, with their times and what they wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.loadgen.protocols.api import Query
from pagedbench.loadgen.protocols.table import PROTOCOLS, encode
from pagedbench.loadgen.wire import Call
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pagedbench.loadgen.server import Server
    from pagedbench.loadgen.target import Target
    from pagedbench.remote.prompts import PromptWriter
    from pagedbench.workload.trace import Trace

WARMUP_PROMPT_LEN, WARMUP_OUTPUT_LEN = 8, 32
WARMUP_SEED = 2**62
"""Seed of the first warm-up prompt; prompts of a trace have such seeds only by chance."""


class CallWriter:
    """Writes requests for one server.

    Args:
        headers: with the API key, if there is one.
        caches_prompt, wants_token_ids, cache_salt, max_len: see `Query`.
    """

    def __init__(
        self,
        server: Server,
        target: Target,
        prompts: PromptWriter,
        headers: Mapping[str, str],
        *,
        caches_prompt: bool,
        wants_token_ids: bool,
        cache_salt: str | None,
        max_len: int | None,
    ) -> None:
        self._server = server
        self._protocol = PROTOCOLS[server.api]
        self._path = target.path + self._protocol.path.replace("/v1", server.openai_path)
        self._host = target.authority
        self._prompts = prompts
        self._headers = headers
        self._caches_prompt = caches_prompt
        self._wants_token_ids = wants_token_ids
        self._cache_salt, self._max_len = cache_salt, max_len

    def _payload(self, request: Request) -> bytes:
        query = Query(
            self._server.model,
            self._prompts.write(request.prompt),
            request.sampling,
            self._wants_token_ids,
            self._caches_prompt,
            self._cache_salt,
            self._max_len,
        )
        return encode(self._path, self._host, self._protocol.body(query), self._headers)

    def calls(self, trace: Trace) -> Iterator[Call]:
        """A call for every request of the trace, in its order.

        Raises:
            ConfigError: it has requests that cannot be sent.
        """
        check_sendable(trace)
        pauses = None if trace.clients is None else trace.clients.pauses
        waits = trace.waits or (None,) * len(trace.requests)
        for request, wait in zip(trace.requests, waits, strict=True):
            delay = 0.0 if pauses is None else pauses[request.request_id]
            yield Call(
                request.request_id,
                request.arrival_time,
                self._payload(request),
                after=None if wait is None else wait.requests[0],
                delay=delay if wait is None else wait.pause,
            )

    def warmup_calls(self, number: int) -> list[Call]:
        """The calls of the warm-up, all due at once."""
        sampling = SamplingParams(WARMUP_OUTPUT_LEN)
        prompts = [Prompt(WARMUP_PROMPT_LEN, WARMUP_SEED + index) for index in range(number)]
        requests = [Request(index, 0.0, prompt, sampling) for index, prompt in enumerate(prompts)]
        return [Call(request.request_id, 0.0, self._payload(request)) for request in requests]


def check_sendable(trace: Trace) -> None:
    """Refuse a trace whose order a client cannot keep, or that asks for several samples.

    Raises:
        ConfigError: a request has several samples, waits for several replies, or is due at a time after an
            earlier one was sent.
    """
    if any(request.sampling.width > 1 for request in trace.requests):
        raise ConfigError(
            f"{trace.name} has requests for several samples (n or beam_width), but servers are asked for "
            "one: leave these columns or options out"
        )
    for wait in trace.waits:
        if wait is not None and len(wait.requests) > 1:
            raise ConfigError(
                f"{trace.name} has requests that wait for several replies at once, which replay cannot send"
            )
        if wait is not None and wait.spacing:
            raise ConfigError(
                "--turn-times recorded and api time a turn by the sending of earlier ones, which replay "
                "cannot do: leave the option out, and a turn follows the reply before it"
            )
