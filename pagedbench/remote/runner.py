"""ServerRunner: sends a trace to a server, and turns what the client saw into a result."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.clock import utc_text
from pagedbench.config import ConfigError
from pagedbench.loadgen.generate import generate
from pagedbench.loadgen.protocols.api import Api
from pagedbench.loadgen.protocols.reading import observe
from pagedbench.loadgen.protocols.table import PROTOCOLS
from pagedbench.loadgen.target import reach
from pagedbench.remote.calls import CallWriter
from pagedbench.remote.certificate import certified
from pagedbench.remote.http import OK, get, key_headers, without_key
from pagedbench.remote.probing import VLLM, plain_target
from pagedbench.remote.prompts import prompt_writer
from pagedbench.remote.records import record_of
from pagedbench.remote.scraping import Scraper, is_idle
from pagedbench.runs.machine_load import load_meter
from pagedbench.runs.result import Result, ServerSide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pagedbench.loadgen.generate import Generation
    from pagedbench.loadgen.observation import Observation
    from pagedbench.loadgen.protocols.api import ServerProtocol
    from pagedbench.loadgen.wire import Call, Exchange
    from pagedbench.plan import Plan
    from pagedbench.remote.options import ServerOptions
    from pagedbench.runs.machine_load import Load
    from pagedbench.workload.trace import Trace

WARMUP_TIMEOUT = 120.0

CLIENT = "cpu"
"""The device of runs against servers in tables."""


class ServerRunner:
    """Makes runs against one server, one after another.

    Args:
        command: what was typed, for the manifest.
        save_outputs: also save the token ids of replies, if the server returns them.
    """

    def __init__(self, options: ServerOptions, command: str = "", *, save_outputs: bool = False) -> None:
        self._options = options
        self._command = command
        self._save_outputs = save_outputs
        self._certified = certified(options.num_workers)
        self._target, _ = plain_target(options.base_url)
        self._reached = reach(self._target)
        self.stop = threading.Event()
        """Setting it ends a run at once."""

    @property
    def is_idle(self) -> bool:
        """Does the server report that nothing runs or waits? Assumed if it has no such metrics."""
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
        """Send the trace, and sample the server's own metrics at the same time.

        Args:
            on_progress: called several times per second with the number of requests that have ended.
        """
        calls, is_cache_fresh = self._calls(plan, trace)
        started = utc_text()
        clients = None if trace.clients is None else trace.clients.number
        meter = load_meter(CLIENT)
        with Scraper(self._target) as scraper:
            exchanges, generation = self._send(calls, self._options.timeout, clients, on_progress)
        load = None if meter is None else meter.read()
        ended = utc_text()
        lags = np.array([exchange.lag for exchange in exchanges], dtype=np.float64)
        record = record_of(
            trace.requests,
            self._observed(plan, exchanges),
            lags,
            forces_lengths=_protocol(plan).forces_lengths,
            takes_token_ids=_protocol(plan).takes_token_ids,
            certified=self._certified,
            was_stopped=generation.was_stopped,
            remarks=_remarks(generation),
        )
        return Result(
            plan,
            trace,
            record,
            command=self._command,
            started=started,
            ended=ended,
            load=None if load is None else _load_of(generation, load),
            server=ServerSide(self._options.values(), scraper.samples(generation.zero), is_cache_fresh),
        )

    def crashed(self, plan: Plan, trace: Trace, crash: str) -> Result:
        """The result of a run that could not start."""
        now = utc_text()
        nobody: NDArray[np.float64] = np.empty(0)
        record = record_of(
            (),
            (),
            nobody,
            forces_lengths=_protocol(plan).forces_lengths,
            takes_token_ids=_protocol(plan).takes_token_ids,
            certified=self._certified,
            was_stopped=False,
        )
        return Result(
            plan,
            trace,
            replace(record, crash=crash),
            command=self._command,
            started=now,
            ended=now,
            server=ServerSide(self._options.values(), None),
        )

    def observations(self, plan: Plan, trace: Trace) -> list[Observation]:
        """Send the trace, and return what was seen of each request.

        Raises:
            KeyboardInterrupt: the user stopped it.
        """
        exchanges, generation = self._send(self._calls(plan, trace)[0], self._options.timeout)
        if generation.was_stopped:
            raise KeyboardInterrupt
        return self._observed(plan, exchanges)

    def _calls(self, plan: Plan, trace: Trace) -> tuple[list[Call], bool]:
        """The calls of a run, and whether the server's prefix cache has nothing of earlier runs, because it
        was told to separate runs, to empty the cache, or not to use it.
        """
        assert plan.server is not None, "a plan for our engine"
        api, salt = plan.server.api, None
        if api is Api.VLLM and plan.server.product.lower() == VLLM:
            salt = secrets.token_hex(8)
        is_fresh = salt is not None or (api is Api.LLAMACPP and not plan.config.prefix_caching)
        if api is Api.SGLANG:
            answer = get(self._target, f"{self._target.path}/flush_cache", "POST")
            is_fresh = answer is not None and answer[0] == OK
        return list(self._writer(plan, salt).calls(trace)), is_fresh

    def _writer(self, plan: Plan, cache_salt: str | None = None) -> CallWriter:
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
            cache_salt=cache_salt,
            max_len=plan.config.max_model_len,
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
        seen = [observe(exchange, protocol) for exchange in exchanges]
        return [replace(item, detail=without_key(item.detail)) if item.detail else item for item in seen]


def _protocol(plan: Plan) -> ServerProtocol:
    assert plan.server is not None, "a plan for our engine"
    return PROTOCOLS[plan.server.api]


def _remarks(generation: Generation) -> tuple[str, ...]:
    """Sentences on what went wrong with the generator."""
    full = ("Requests had to wait because no more sockets could be opened.",) if generation.was_full else ()
    return (*generation.problems, *full)


def _load_of(generation: Generation, load: Load) -> Load:
    """The machine's load seen from the workers, which are not counted as other programs."""
    workers = generation.workers
    own = sum(worker.cpu_s for worker in workers)
    return replace(
        load,
        cpu_s=load.cpu_s + own,
        foreign_cores=max(load.foreign_cores - own / load.wall_s, 0.0),
        cpu_share=min((worker.cpu_share for worker in workers), default=1.0),
    )
