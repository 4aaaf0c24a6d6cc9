"""The options of every command that sends requests to a server."""

from __future__ import annotations

import math
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pagedbench.config import FIELDS, ConfigError, flag
from pagedbench.option_values import NO_RATE
from pagedbench.runs.configs import requested
from pagedbench.runs.machine import usable_cores
from pagedbench.runs.options import OF_WORKLOAD

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pagedbench.runs.options import CommandOptions

PANEL = "Server"
AUTO = "auto"
"""Find the API by asking the server."""

DEFAULT_TIMEOUT = 600.0
ONE_SAMPLE = ("n", "beam_width")
"""Options of `run` that ask for several samples: servers return these in different forms."""


def _option(help: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, show_default=False, rich_help_panel=PANEL)


BaseUrl = Annotated[
    str | None, _option("Where the server is, such as http://localhost:8000.", metavar="URL")
]
ApiOption = Annotated[
    str | None,
    _option("auto (found by asking), openai, vllm, sglang, llamacpp, tgi or ollama \\[auto]."),
]
ServedModel = Annotated[str | None, _option("The name that requests carry \\[the server's first model].")]
Timeout = Annotated[
    float | None, _option("Seconds after its arrival time in which a request must be answered \\[600].")
]
NumWorkers = Annotated[int | None, _option("Processes that send requests \\[the cores less one, up to 4].")]


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a server is reached, and by how many processes."""

    base_url: str
    api: str = AUTO
    served_model: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    num_workers: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.timeout < math.inf:
            raise ConfigError(f"--timeout must be a number of seconds above 0, not {self.timeout:g}")
        if self.num_workers < 1:
            raise ConfigError(f"--num-workers must be at least 1, not {self.num_workers}")

    def values(self) -> dict[str, str | float]:
        """The options that have a value, for `replay --config`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


NAMES = tuple(item.name for item in fields(ServerOptions))
TYPES: dict[str, type | tuple[type, ...]] = {"timeout": (int, float), "num_workers": int}


def default_workers() -> int:
    """All cores except one, which is left to a server on this machine; at most four."""
    return max(1, min(4, usable_cores() - 1))


def server_options(config: Path | None, **typed: Any) -> ServerOptions:
    """The options as typed and, for options that were not typed, those in the file of `--config`.

    Raises:
        ConfigError: there is no base URL, or a value is impossible.
    """
    table = {} if config is None else _server_table(config)
    values = table | {name: value for name, value in typed.items() if value is not None}
    if "base_url" not in values:
        raise ConfigError("name the server with --base-url, such as http://localhost:8000")
    return ServerOptions(**{"num_workers": default_workers(), **values})


def asked_server(base_url: str | None, others: Mapping[str, Any]) -> ServerOptions | None:
    """The server options of a command that may also run our engine; None: no server was named.

    Raises:
        ConfigError: a value is impossible, or an option has no effect without --base-url.
    """
    if base_url is not None:
        return server_options(None, base_url=base_url, **others)
    for name, value in others.items():
        if value is not None:
            raise ConfigError(f"{flag(name)} has no effect without --base-url, the server")
    return None


def _server_table(path: Path) -> dict[str, Any]:
    """The table `[server]` of a file; empty if it has none. `requested` checks the rest."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("server", {})
    except (OSError, ValueError):
        return {}
    for name, value in table.items():
        if name not in NAMES:
            raise ConfigError(f"--config {path} has the unknown key {name!r} in [server]")
        if isinstance(value, bool) or not isinstance(value, TYPES.get(name, str)):
            raise ConfigError(f"--config {path}: {name!r} in [server] cannot be {value!r}")
    return dict(table)


def with_file(options: CommandOptions) -> CommandOptions:
    """The options, with those in the file of `--config` among the flags. From the file of a run of our
    engine only the workload is taken, so that it can be repeated on a server.

    Raises:
        ConfigError: the file cannot be read.
    """
    found = requested(options, of_server=True)
    flags = {name: found[name] for name in found if name in options.flags or name in OF_WORKLOAD}
    if options.config is not None and set(flags.get("arrival", ())) & set(NO_RATE):
        flags.pop("rate", None)  # a run's file has every option, even if it has no effect
    return replace(options, flags=flags, config=None)


def check_flags(options: CommandOptions) -> None:
    """Refuse options that would have no effect on a server.

    Raises:
        ConfigError: one is about our engine, or asks for several samples of a prompt.
    """
    for name, values in options.flags.items():
        if name in ONE_SAMPLE and values != (FIELDS[name].default,):
            raise ConfigError(
                f"{flag(name)} is not sent to servers: they are asked for one sample of each prompt"
            )
        if name not in OF_WORKLOAD:
            raise ConfigError(f"{flag(name)} has no effect on a server: it is about the engine of `run`")
    if options.save_events:
        raise ConfigError("--save-events has no effect on a server, whose memory cannot be seen")
