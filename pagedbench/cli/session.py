"""Executes jobs one after the other: load once, warm up, run under the eyes of progress, save at once."""

from __future__ import annotations

import os
import shlex
import sys
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.cli.interrupts import Interrupts

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.backend import Backend
    from pagedbench.cli.jobs import Job
    from pagedbench.cli.options import Given
    from pagedbench.engine import Engine
    from pagedbench.metrics.records import RunRecord
    from pagedbench.report.result import Result
    from pagedbench.workload.arrivals import ArrivalSource

CRASHED, INVALID, INTERRUPTED = 1, 5, 130
"""Exit codes."""

SHARED = ("model", "load_format", "device", "dtype", "kernels", "kv_slots", "tensor_parallel_size", "seed")
"""Options on which a backend depends; runs that agree in them use the same one."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that has ended and been saved."""

    result: Result
    folder: Path


class Session:
    """The runs of one command."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.finished: list[Finished] = []
        self.is_interrupted = False
        self._backend: Backend | None = None
        self._backend_key: tuple[object, ...] | None = None

    @property
    def results(self) -> list[Result]:
        return [finished.result for finished in self.finished]

    @property
    def exit_code(self) -> int:
        if self.is_interrupted:
            return INTERRUPTED
        if any(result.status == "crashed" for result in self.results):
            return CRASHED
        return INVALID if self.given.strict and not all(r.is_usable for r in self.results) else 0

    def execute(self, job: Job, title: str = "") -> Finished:
        """Run one job and write its folder.

        Raises:
            ReportError: the folder cannot be written.
        """
        from pagedbench.experiments.machine_load import load_meter
        from pagedbench.experiments.memory_pace import read_pace
        from pagedbench.report.files import default_folder, write_run
        from pagedbench.report.progress import Progress
        from pagedbench.report.result import make_result

        backend, device = self._load(job), job.plan.config.device
        engine = backend.make_engine(
            job.plan, prefixes=job.trace.prefixes, save_logprobs=self.given.save_outputs
        )
        crash = self._warm_up(backend, job)
        with Interrupts(engine.stop) as interrupts:
            pace_before, started = read_pace(device), utc_text()
            meter = load_meter(device)
            if crash is None:
                with Progress(engine, job.trace, self.given.progress, title):
                    record = _run(engine, job.trace.arrivals())
            else:
                record = engine.salvage(crash)
            load = None if meter is None else meter.read()
            command = shlex.join(["pagedbench", *sys.argv[1:]])
            result = make_result(
                job.plan,
                job.trace,
                record,
                command=command,
                started=started,
                ended=utc_text(),
                paces=(pace_before, read_pace(device)),
                load=load,
            )
            folder = job.folder or default_folder(job.plan, job.trace, started)
            folder = write_run(result, folder, force=self.given.force, save_outputs=self.given.save_outputs)
        self.is_interrupted = interrupts.received
        self.finished.append(Finished(result, folder))
        return self.finished[-1]

    def _load(self, job: Job) -> Backend:
        from pagedbench.backend import load_backend

        key = tuple(getattr(job.plan.config, name) for name in SHARED)
        if self._backend is None or key != self._backend_key:
            self._backend = None  # two models need not fit at once
            self._backend, self._backend_key = load_backend(job.plan), key
        return self._backend

    def _warm_up(self, backend: Backend, job: Job) -> str | None:
        """Before a wall clock starts. Returns the crash that ended it, if one did."""
        try:
            speed = backend.warm_up(job.plan)
        except Exception as error:
            return _said_crash(error)
        if speed is not None:
            self._announce(job, speed)
        return None

    def _announce(self, job: Job, speed: float) -> None:
        """Before a long run, say how long."""
        from pagedbench.report.numbers import number, span
        from pagedbench.report.progress import NOTABLE_TIME, TOKENS_PER_WARM_UP_TOKEN, estimated_time

        seconds = estimated_time(job.trace, speed)
        if seconds > NOTABLE_TIME:
            print(
                f"This run of {job.plan.system.name} takes about {span(seconds)}: the longer of arrivals "
                f"and of output at {TOKENS_PER_WARM_UP_TOKEN:g} of the warm-up's {number(speed)} tokens/s.",
                file=sys.stderr,
            )


def _run(engine: Engine, source: ArrivalSource) -> RunRecord:
    """Serve the source. A crash is said at once, and what was recorded before it is kept."""
    try:
        return engine.run(source)
    except Exception as error:
        return engine.salvage(_said_crash(error))


def _said_crash(error: Exception) -> str:
    """Say a crash on stderr. Returns it in one line."""
    from pagedbench.metrics.crash import crash_text

    if os.environ.get("PAGEDBENCH_DEBUG") == "1":
        traceback.print_exception(error)
    crash = crash_text(error)
    print(f"Error: crashed with {crash}; PAGEDBENCH_DEBUG=1 shows all of it", file=sys.stderr)
    return crash


def utc_text() -> str:
    """The time of day as ISO 8601, in UTC."""
    from pagedbench.clock import utc_now

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", utc_now())
