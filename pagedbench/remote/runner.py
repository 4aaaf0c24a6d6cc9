"""ServerRunner: sends a trace to a server, and makes a result of what its client saw."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.clock import utc_text
from pagedbench.config import ConfigError
from pagedbench.loadgen.generate import generate
from pagedbench.loadgen.protocols.reading import observe
from pagedbench.loadgen.protocols.table import PROTOCOLS
from pagedbench.loadgen.target import reach
from pagedbench.remote.calls import CallWriter
from pagedbench.remote.certificate import certified_rate
from pagedbench.remote.http import key_headers
from pagedbench.remote.probing import plain_target
from pagedbench.remote.prompts import prompt_writer
from pagedbench.remote.records import record_of
from pagedbench.remote.scraping import Scraper, is_idle
from pagedbench.runs.result import ServerSide, make_result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pagedbench.loadgen.generate import Generation
    from pagedbench.loadgen.observation import Observation
    from pagedbench.loadgen.protocols.api import ServerProtocol
    from pagedbench.loadgen.wire import Call, Exchange
    from pagedbench.plan import Plan
    from pagedbench.remote.options import ServerOptions
    from pagedbench.runs.result import Result
    from pagedbench.workload.trace import Trace

WARMUP_TIMEOUT = 120.0


class ServerRunner:
    """Runs against one server, one after the other.

    Args:
        command: what was typed, for the manifest.
        save_outputs: the token ids of replies are wanted, where the server gives them.
    """

    def __init__(self, options: ServerOptions, command: str = "", *, save_outputs: bool = False) -> None:
        self._options = options
        self._command = command
        self._save_outputs = save_outputs
        self._certified_rate = certified_rate(options.num_workers)
        self._target, _ = plain_target(options.base_url)
        self._reached = reach(self._target)
        self.stop = threading.Event()
        """When it is set, a run ends at once."""

    @property
    def is_idle(self) -> bool:
        """Does the server say that nothing runs or waits? Without such metrics it is taken to be so."""
        return is_idle(self._target)

    def warm_up(self, plan: Plan) -> None:
        """Send the warm-up requests.

        Raises:
            ConfigError: the server does not answer one of them.
        """
        calls = self._writer(plan).warmup_calls(plan.config.warmup)
        if not calls:
            return
        exchanges, generation = self._send(calls, WARMUP_TIMEOUT)
        observations = self._observed(plan, exchanges)
        failed = next((item for item in observations if item.failure is not None), None)
        if failed is not None and not generation.was_stopped:
            raise ConfigError(f"the server does not answer the warm-up: {failed.detail or failed.failure}")

    def run(self, plan: Plan, trace: Trace, on_progress: Callable[[int], None] | None = None) -> Result:
        """Send the trace, and look at the server's own metrics meanwhile.

        Args:
            on_progress: called several times a second with the number of requests that have ended.
        """
        calls = list(self._writer(plan).calls(trace))
        started = utc_text()
        clients = None if trace.clients is None else trace.clients.number
        with Scraper(self._target) as scraper:
            exchanges, generation = self._send(calls, self._options.timeout, clients, on_progress)
        ended = utc_text()
        lags = np.array([exchange.lag for exchange in exchanges], dtype=np.float64)
        record = record_of(
            trace.requests,
            self._observed(plan, exchanges),
            lags,
            forces_lengths=_protocol(plan).forces_lengths,
            certified_rate=self._certified_rate,
            was_stopped=generation.was_stopped,
        )
        return make_result(
            plan,
            trace,
            record,
            command=self._command,
            started=started,
            ended=ended,
            server=ServerSide(self._options.values(), scraper.samples(generation.zero)),
        )

    def observations(self, plan: Plan, trace: Trace) -> list[Observation]:
        """Send the trace, and return what was seen of each request.

        Raises:
            KeyboardInterrupt: the user has stopped it.
        """
        exchanges, generation = self._send(list(self._writer(plan).calls(trace)), self._options.timeout)
        if generation.was_stopped:
            raise KeyboardInterrupt
        return self._observed(plan, exchanges)

    def _writer(self, plan: Plan) -> CallWriter:
        assert plan.server is not None, "a plan for our engine"
        protocol = _protocol(plan)
        tokenizer = plan.config.tokenizer or plan.tokenizer
        prompts = prompt_writer(
            plan.server, plan.shape.vocab_size, tokenizer, takes_token_ids=protocol.takes_token_ids
        )
        return CallWriter(
            plan.server,
            self._target,
            prompts,
            key_headers(),
            caches_prompt=plan.config.prefix_caching,
            wants_token_ids=self._save_outputs,
        )

    def _send(
        self,
        calls: Sequence[Call],
        timeout: float,
        num_clients: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> tuple[list[Exchange], Generation]:
        exchanges: list[Exchange] = []
        generation = generate(
            calls,
            self._reached,
            on_exchange=exchanges.append,
            timeout=timeout,
            num_workers=self._options.num_workers,
            num_clients=num_clients,
            stop=self.stop,
            on_progress=on_progress,
        )
        return exchanges, generation

    def _observed(self, plan: Plan, exchanges: Sequence[Exchange]) -> list[Observation]:
        protocol = _protocol(plan)
        return [observe(exchange, protocol) for exchange in exchanges]


def _protocol(plan: Plan) -> ServerProtocol:
    assert plan.server is not None, "a plan for our engine"
    return PROTOCOLS[plan.server.api]
