"""config.toml: every option of a run that has a value, as `run --config` reads it."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pagedbench.runs.options import OF_WORKLOAD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pagedbench.config import RunConfig


def config_toml(config: RunConfig, server: Mapping[str, str | float] | None = None) -> str:
    """The options by name; an option without a value is left out, as TOML has no null.

    Args:
        server: how the server of the run was reached. The options of our engine are then left out.
    """
    names = [option.name for option in fields(config)]
    if server is not None:
        names = [name for name in names if name in OF_WORKLOAD]
    command = "run" if server is None else "replay"
    lines = [f"# Repeat this run: pagedbench {command} --config config.toml"]
    lines += _lines({name: getattr(config, name) for name in names})
    lines += [] if server is None else ["", "[server]", *_lines(server)]
    return "\n".join(lines) + "\n"


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {_literal(value)}" for name, value in values.items() if value is not None]


def _literal(value: str | bool | float) -> str:
    if isinstance(value, str):  # strings are written alike in JSON and TOML, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)
