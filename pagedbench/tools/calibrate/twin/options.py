"""The options of `calibrate --base-url`, and the measurement that they ask for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pagedbench.config import ConfigError, RunConfig
from pagedbench.remote.options import PANEL, server_options
from pagedbench.remote.options import ApiOption as ApiOption
from pagedbench.remote.options import BaseUrl as BaseUrl
from pagedbench.remote.options import ServedModel as ServedModel
from pagedbench.remote.options import Timeout as Timeout

if TYPE_CHECKING:
    from collections.abc import Mapping

SIMULATED = "sim:twin.json"
"""The name of the simulated device that stands for a server while it is measured; no such file is read."""

DEFAULT_PLACE = Path("twin.json")
LEAST_DURATION = 10.0
TOLD = ("kv_slots", "block_size", "prefill", "max_num_seqs", "max_num_batched_tokens", "max_model_len",
        "prefix_caching", "seed")  # fmt: skip
"""Options that describe the server, by the names that they have in `run`."""

OF_SERVERS = ("duration", "api", "served_model", "timeout", "prefill", "max_num_seqs",
              "max_num_batched_tokens", "max_model_len", "prefix_caching")  # fmt: skip
"""Options that need --base-url."""


def _option(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel=PANEL)


Duration = Annotated[float, _option("Approximate seconds of the measurement.")]
PrefillOption = Annotated[str, _option("How the server runs prompts, as in --prefill of `run`.")]
MaxNumSeqs = Annotated[int, _option("Most sequences in one of the server's iterations.")]
MaxNumBatchedTokens = Annotated[int, _option("The server's token budget per iteration.")]
PrefixCaching = Annotated[bool, _option("The server reuses the KV blocks of shared prompt prefixes.")]
MaxModelLen = Annotated[int | None, _option("Most tokens of prompt + output \\[2048, or the server's].")]


def calibrate_server(values: Mapping[str, Any], *, is_model_given: bool) -> None:
    """Measure a server, save its profile, and print what was found.

    Args:
        values: the options of the command by name.

    Raises:
        ConfigError: an option is impossible, or the server cannot be measured.
    """
    duration = values["duration"]
    if not LEAST_DURATION <= duration < math.inf:
        raise ConfigError(f"--duration must be at least {LEAST_DURATION:g} seconds, not {duration:g}")
    options = server_options(
        None, **{name: values[name] for name in ("base_url", "api", "served_model", "timeout")}
    )
    dtype = "float16" if values["dtype"] == "auto" else values["dtype"]
    told = {name: values[name] for name in TOLD}
    config = RunConfig(model=values["model"], dtype=dtype, device=SIMULATED, **told)
    from pagedbench.show.console import stdout_console
    from pagedbench.show.stages import Stages
    from pagedbench.tools.calibrate.report import check_place
    from pagedbench.tools.calibrate.twin.report import print_twin, save_twin
    from pagedbench.tools.calibrate.twin.server import measure_server

    place = Path(values["output"] or DEFAULT_PLACE).expanduser()
    check_place(place, force=values["force"])
    with Stages("asking the server about itself") as stages:
        measured = measure_server(options, config, duration, stages.tell, is_model_given=is_model_given)
    save_twin(measured, place)
    print_twin(stdout_console(), measured, place)
