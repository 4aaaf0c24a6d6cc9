"""Service: an engine, its thread and its endpoint, from loading the model to the last reply."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.backend import load_backend
from pagedbench.clock import utc_text
from pagedbench.runs.numbers import gibibytes
from pagedbench.tools.serve.app import Endpoint
from pagedbench.tools.serve.counting import CountingRecorder
from pagedbench.tools.serve.emulation import emulate
from pagedbench.tools.serve.engine_thread import EngineThread
from pagedbench.tools.serve.served_model import EMULATED, served_model
from pagedbench.tools.serve.server import Lifetime, allow_many_files

if TYPE_CHECKING:
    import socket
    from signal import Signals

    from pagedbench.metrics.records import RunRecord
    from pagedbench.plan import Plan
    from pagedbench.tools.serve.command import Access

END_SECONDS = 60.0
"""Seconds for the last iteration, after which the engine is abandoned."""


@dataclass(frozen=True, slots=True)
class Served:
    """The outcome of a service.

    Attributes:
        record: the engine's; None if it did not end.
        signal: the signal that ended the service.
    """

    plan: Plan
    record: RunRecord | None
    started: str
    ended: str
    received: Signals | None
    crash: str | None

    @property
    def is_interrupted(self) -> bool:
        """Was it ended by Ctrl-C rather than by a supervisor?"""
        return self.received is not None and self.received.name == "SIGINT"


class Service:
    """One model that is served."""

    def __init__(self, plan: Plan, name: str | None, *, is_kept: bool) -> None:
        """Load the model and warm it up.

        Args:
            name: the model's name for clients; None: the plan's.
            is_kept: everything is recorded, which grows with time.

        Raises:
            InputError: the model cannot be loaded, or the pool does not fit the device.
        """
        self.plan = plan
        self.lifetime: Lifetime | None = None
        self.thread: EngineThread | None = None
        self.model = served_model(plan, name)
        backend = load_backend(plan)
        self.engine = backend.make_engine(plan)
        if plan.config.is_simulated:
            emulate(self.engine, plan.shape.vocab_size)
        if not is_kept:
            self.engine.recorder = CountingRecorder(self.engine.memory.num_slots)
        backend.warm_up(plan)

    def run(self, opened: socket.socket, access: Access) -> Served:
        """Serve until a signal arrives."""
        allow_many_files()
        return asyncio.run(self._run(opened, access))

    async def _run(self, opened: socket.socket, access: Access) -> Served:
        started = utc_text()
        self.thread = thread = EngineThread(self.engine, asyncio.get_running_loop())
        endpoint = Endpoint(self.model, thread, max_queue=access.max_queue, api_key=access.api_key)
        self.lifetime = lifetime = Lifetime(endpoint, access.grace)
        thread.start()
        await lifetime.run(opened, lambda: self._announce(opened))
        thread.close()
        await thread.join(END_SECONDS)
        return Served(self.plan, thread.record, started, utc_text(), lifetime.received, thread.crash)

    def _announce(self, opened: socket.socket) -> None:
        """Print what is served, and where."""
        plan, (host, port) = self.plan, opened.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        pool = f"KV pool {plan.kv_slots:,} tokens ({gibibytes(plan.kv_bytes)})"
        lines = [
            f"{plan.system.name} with {self.model.names[0]} on {plan.device_name}: weights {plan.weights}, "
            f"{plan.config.dtype}, {pool}.",
            f"Serving http://{shown}:{port}/v1 until Ctrl-C.",
        ]
        if plan.config.is_simulated:
            lines.insert(1, f"{EMULATED.capitalize()}.")
        print("\n".join(lines), file=sys.stdout, flush=True)
