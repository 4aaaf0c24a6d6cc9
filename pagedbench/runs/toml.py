"""config.toml: every option of a run that has a value, as `run --config` reads it."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagedbench.config import RunConfig


def config_toml(config: RunConfig) -> str:
    """The options by name; an option without a value is left out, as TOML has no null."""
    lines = ["# Repeat this run: pagedbench run --config config.toml"]
    for option in fields(config):
        value = getattr(config, option.name)
        if value is not None:
            lines.append(f"{option.name} = {_literal(value)}")
    return "\n".join(lines) + "\n"


def _literal(value: str | bool | float) -> str:
    if isinstance(value, str):  # strings are written alike in JSON and TOML, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)
