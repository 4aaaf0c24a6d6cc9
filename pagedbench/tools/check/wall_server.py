"""The real run of `check --wall --base-url`: the requests of `check --wall`, sent to somebody's server."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.loadgen.generate import check_generator
from pagedbench.remote.jobs import prepare_for_servers
from pagedbench.remote.options import AUTO, ServerOptions, default_workers
from pagedbench.remote.probing import find_server
from pagedbench.remote.runner import ServerRunner
from pagedbench.runs.files import ReportError
from pagedbench.runs.options import CommandOptions
from pagedbench.tools.check.wall_run import WALL_METRICS, WALL_RUN, figures_of

if TYPE_CHECKING:
    from threading import Event

    from pagedbench.loadgen.server import Server
    from pagedbench.runs.jobs import Job


@dataclass(frozen=True, slots=True)
class WallServer:
    """A server that is measured, and what it is sent."""

    server: Server
    options: ServerOptions
    job: Job

    @property
    def facts(self) -> dict[str, str]:
        """What must be the same in a baseline. Another version may be what is under test."""
        return {"product": self.server.product, "model": self.server.model}


def find_wall_server(base_url: str, model: str | None) -> WallServer:
    """Ask a server what it is, and write its requests.

    Args:
        model: a folder with its vocabulary and tokenizer, or a built-in shape; None: what the server says.

    Raises:
        ConfigError: nobody is there, or the dimensions of its model are not known.
    """
    check_generator()
    options = ServerOptions(base_url, num_workers=default_workers())
    server = find_server(base_url, AUTO, None, None)
    config = replace(WALL_RUN, model=model or WALL_RUN.model, load_format="auto", device="auto")
    (job,) = prepare_for_servers(
        [config], [server], CommandOptions(flags={}), is_model_given=model is not None
    )
    return WallServer(server, options, job)


def measure_server(wall: WallServer, repeats: int, stop: Event) -> dict[str, list[float]] | None:
    """Metric -> one value for each run, one after the other; None if it was stopped.

    How busy this machine is does not count, as the server may be on it; that requests were late does.

    Raises:
        ReportError: a run failed, or is not valid.
        ConfigError: the server does not answer the warm-up.
    """
    runner = ServerRunner(wall.options)
    runner.stop = stop
    runner.warm_up(wall.job.plan)
    runs: list[dict[str, float]] = []
    for number in range(repeats):
        print(f"real run {number + 1} of {repeats}", file=sys.stderr)
        result = runner.run(wall.job.plan, wall.job.trace)
        if stop.is_set():
            return None
        if reasons := list(result.record.invalid_because):
            raise ReportError(f"a real run is not valid: {'; '.join(reasons)}")
        try:
            runs.append(figures_of(result))
        except ValueError as error:
            raise ReportError(f"a real run failed: {error}") from None
    return {name: [run[name] for run in runs] for name in WALL_METRICS}
