"""`pagedbench replay`: the requests, arrivals and metrics of `run`, against a live server."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError
from pagedbench.remote.options import (
    ApiOption,
    BaseUrl,
    NumWorkers,
    ServedModel,
    Timeout,
    check_flags,
    default_workers,
    server_options,
    with_file,
)
from pagedbench.runs.options import OF_WORKLOAD, CommandOptions, takes_run_options

if TYPE_CHECKING:
    from rich.console import Console

    from pagedbench.remote.options import ServerOptions
    from pagedbench.runs.jobs import Job
    from pagedbench.show.session import Session

DEFAULT_RATES = "100,300,1000,3000"
PANEL = "Exactness"

Certify = Annotated[
    bool,
    typer.Option(
        "--certify",
        help="Measure the load generator against a server of known delays, at every rate.",
        rich_help_panel=PANEL,
    ),
]
Rates = Annotated[str, typer.Option(help="With --certify: requests per second.", rich_help_panel=PANEL)]


@partial(takes_run_options, shown=OF_WORKLOAD)
def replay(
    options: CommandOptions,
    *,
    base_url: BaseUrl = None,
    api: ApiOption = None,
    served_model: ServedModel = None,
    timeout: Timeout = None,
    num_workers: NumWorkers = None,
    certify: Certify = False,
    rates: Rates = DEFAULT_RATES,
) -> None:
    """Send the requests of a trace to a live server, and measure it as `run` measures our engine.

    Latency counts from the scheduled arrival. The run is valid if every request was sent in time and its
    reply has the exact length. An API key is read from the environment (PAGEDBENCH_API_KEY or
    OPENAI_API_KEY).
    """
    if certify:
        from pagedbench.tools.replay import certify_command

        if base_url is not None:
            raise ConfigError("--certify starts its own server: leave out --base-url")
        raise typer.Exit(certify_command.certify(options, rates, num_workers or default_workers()))
    if rates != DEFAULT_RATES:
        raise ConfigError("--rates is for --certify: --rate says how fast requests are sent")
    target = server_options(
        options.config,
        base_url=base_url,
        api=api,
        served_model=served_model,
        timeout=timeout,
        num_workers=num_workers,
    )
    options = with_file(options)
    check_flags(options)
    jobs = _jobs(options, target)
    from pagedbench.remote.runner import ServerRunner
    from pagedbench.show.console import COMPARE_WIDTH, stdout_console
    from pagedbench.show.session import Session, print_document, print_header, print_plans

    if options.dry_run:
        print_plans(jobs)
        return
    runner = ServerRunner(
        target, shlex.join(["pagedbench", *sys.argv[1:]]), save_outputs=options.save_outputs
    )
    session = Session(options, {job.plan.system.name: runner for job in jobs})
    console = stdout_console()
    if options.format == "rich":
        print_header(console, jobs)
    _execute(session, console, jobs)
    if options.format != "rich":
        print_document(session)
    elif len(session.finished) > 1:
        from pagedbench.show.comparison import print_comparison

        print_comparison(stdout_console(COMPARE_WIDTH), session.results)
    raise typer.Exit(session.conclude())


def _jobs(options: CommandOptions, target: ServerOptions) -> list[Job]:
    """The requests to send; everything is checked, and the server is asked about itself."""
    from pagedbench.loadgen.generate import check_generator
    from pagedbench.remote.jobs import check_workload, prepare_for_servers
    from pagedbench.remote.probing import find_server
    from pagedbench.runs.configs import run_configs

    check_generator()
    configs = run_configs(options)
    check_workload(configs, options)
    server = find_server(target.base_url, target.api, target.served_model, configs[0].label)
    return prepare_for_servers(configs, [server], options, is_model_given="model" in options.flags)


def _execute(session: Session, console: Console, jobs: list[Job]) -> None:
    """Send each job's requests, and print what was measured."""
    from pagedbench.show.tables import print_result

    is_rich = session.options.format == "rich"
    for number, job in enumerate(jobs, start=1):
        if is_rich and len(jobs) > 1:
            console.rule(f"run {number}/{len(jobs)}: {job.name}")
        finished = session.execute(job)
        if is_rich:
            print_result(console, finished.result, finished.folder)
        if session.is_interrupted:
            break
