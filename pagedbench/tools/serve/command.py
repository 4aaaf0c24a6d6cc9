"""`pagedbench serve`: our engine behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import importlib.util
import ipaddress
import math
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from pagedbench.config import ConfigError, is_simulated
from pagedbench.runs.exit_codes import CRASHED, INTERRUPTED
from pagedbench.runs.options import PANELS, CommandOptions, with_options

if TYPE_CHECKING:
    import socket

    from pagedbench.config import RunConfig
    from pagedbench.plan import Plan
    from pagedbench.tools.serve.service import Served

KEY_VARIABLE = "PAGEDBENCH_API_KEY"

OPTIONS = ("system", "tokenizer", "warmup", "seed", "label", *PANELS["Model and device"].split(),
           *PANELS["Memory and scheduling"].split())  # fmt: skip
"""The options of `run` about the engine. Requests and their times come from the clients."""

DELIVERY = ("config", "output", "force")

Host = Annotated[str, typer.Option(help="Address; except for loopback, PAGEDBENCH_API_KEY must be set.")]
Port = Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65535)]
ServedName = Annotated[str | None, typer.Option(help="Name of the model for clients \\[--model].")]
MaxQueue = Annotated[
    int, typer.Option(help="Most requests that wait for admission; others get status 429.", min=1)
]
Grace = Annotated[
    float, typer.Option(help="Seconds for running replies to end after SIGTERM or Ctrl-C.", min=0)
]


@dataclass(frozen=True, slots=True)
class Access:
    """Address, key and limits of the endpoint."""

    host: str
    port: int
    api_key: str | None
    max_queue: int
    grace: float


def serve(
    options: CommandOptions,
    *,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    served_model_name: ServedName = None,
    max_queue: MaxQueue = 1024,
    grace: Grace = 30.0,
) -> None:
    """Serve any system behind an OpenAI-compatible endpoint until Ctrl-C or SIGTERM.

    With a simulated --device, replies take as long as the cost model says, and their tokens are made up.

    With --output, a run folder is written at the end.
    """
    access = Access(host, port, os.environ.pop(KEY_VARIABLE, None) or None, max_queue, grace)
    _check_access(access)
    config = _config(options)
    _check_extra()
    if options.output is not None:
        from pagedbench.runs.files import check_folder

        check_folder(options.output, force=options.force)
    from pagedbench.tools.serve.server import open_socket

    with open_socket(host, port) as opened:
        served = _serve(
            _plan(config), access, opened, served_model_name, is_kept=options.output is not None
        )
    if options.output is not None:
        from pagedbench.tools.serve.saving import save

        print(save(served, options.output, force=options.force))
    if served.crash is not None:
        print(f"Error: the engine crashed with {served.crash}", file=sys.stderr)
    has_failed = served.crash is not None or served.record is None
    raise typer.Exit(CRASHED if has_failed else INTERRUPTED if served.is_interrupted else 0)


serve = with_options(serve, OPTIONS, DELIVERY)


def _config(options: CommandOptions) -> RunConfig:
    """The configuration of the one system that serves."""
    from pagedbench.runs.configs import run_configs
    from pagedbench.runs.names import check_backend

    configs = run_configs(options)
    if len(configs) > 1:
        raise ConfigError("serve runs one system: give one value to each option")
    (config,) = configs
    check_backend(config.device, config.model)
    if is_simulated(config.device) and config.disk_cache != "0":
        raise ConfigError("--disk-cache has no effect on an emulated server: leave it out")
    return config


def _check_access(access: Access) -> None:
    """Refuse an address that others can reach without a key, and an infinite grace period."""
    if not math.isfinite(access.grace):
        raise ConfigError(f"--grace must be a number of seconds, not {access.grace:g}")
    if access.api_key is None and not _is_loopback(access.host):
        raise ConfigError(
            f"--host {access.host} can be reached by others: set {KEY_VARIABLE} in the environment, which "
            "clients then have to send"
        )
    if access.api_key is not None and not (access.api_key.isascii() and access.api_key.isprintable()):
        raise ConfigError(f"{KEY_VARIABLE} must be printable ASCII, as headers are")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_extra() -> None:
    for name in ("uvicorn", "starlette", "httptools"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"serve needs {name}: pip install 'pagedbench[serve]'")


def _plan(config: RunConfig) -> Plan:
    from pagedbench.plan import make_plan
    from pagedbench.runs.jobs import check_memory

    plan = make_plan(config)
    check_memory(plan)
    return plan


def _serve(plan: Plan, access: Access, opened: socket.socket, name: str | None, *, is_kept: bool) -> Served:
    """Load the model, and serve until a signal arrives."""
    from pagedbench.tools.serve.service import Service

    service = Service(plan, name, is_kept=is_kept)
    return service.run(opened, access)
