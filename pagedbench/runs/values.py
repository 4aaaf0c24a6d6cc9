"""Values of options: from the text of the command line and the TOML of --config to RunConfig's types."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from pathlib import Path
from typing import Any, TypeAlias

from pagedbench.config import FIELDS, ConfigError, flag
from pagedbench.option_values import LISTS

Value: TypeAlias = str | int | float
Values: TypeAlias = dict[str, tuple[Value, ...]]
"""Values by field: one, or several where the field is in `LISTS`."""

_WORDS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
SWITCH_WORDS = {"on": True, "off": False}


def parse_share(text: str) -> float:
    """A share from "5%" or "0.05"; NaN if the text is neither a percentage nor a number."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", text)
    return math.nan if match is None else float(match[1]) / (100 if match[2] else 1)


def value_type(name: str) -> str:
    """The type of a field without its None: "int", "float", "str" or "bool"."""
    return str(FIELDS[name].type).split(" | ")[0]


def parse_text(name: str, text: str) -> tuple[Value, ...]:
    """Read the text after an option. A comma in the name of an existing file does not separate values.

    Raises:
        ConfigError: the text is empty or not of the field's type.
    """
    names_file = name in ("trace", "model", "device") and Path(text.removeprefix("sim:")).exists()
    is_list = name in LISTS and not names_file
    parts = [part.strip() for part in text.split(",")] if is_list else [text.strip()]
    if not all(parts):
        raise ConfigError(f"{flag(name)} has an empty value: {text!r}")
    return tuple(_value(name, part) for part in parts)


def _value(name: str, text: str) -> Value:
    kind = value_type(name)
    if kind == "bool":
        if text not in SWITCH_WORDS:
            raise ConfigError(f"{flag(name)} is on, off or on,off, not {text!r}")
        return SWITCH_WORDS[text]
    try:
        return int(text) if kind == "int" else float(text) if kind == "float" else text
    except ValueError:
        raise ConfigError(f"{flag(name)} takes {_WORDS[kind]}, not {text!r}") from None


def read_config(path: Path, *, of_server: bool = False) -> Values:
    """Read the options in a TOML file, such as the config.toml of a run.

    Args:
        of_server: accept the file of a run against a server; its table `[server]` is left out.

    Raises:
        ConfigError: the file cannot be read or is not TOML, a key is unknown, a value has the wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read --config {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--config {path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--config {path} is not TOML: {error}") from None
    values: Values = {}
    if isinstance(table.get("server"), dict) and table.pop("server") and not of_server:
        raise ConfigError(f"--config {path} is of a run against a server: repeat it with pagedbench replay")
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"--config {path} has the unknown key {key!r}{hint}")
        values[name] = _checked(path, key, name, value)
    return values


def _checked(path: Path, key: str, name: str, value: Any) -> tuple[Value, ...]:
    """Convert a TOML value to the type of its field; an array is allowed where the field takes lists."""
    if isinstance(value, list) and name not in LISTS:
        raise ConfigError(f"--config {path}: {key!r} takes one value, not a list")
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ConfigError(f"--config {path}: {key!r} is an empty list")
    kind = value_type(name)
    allowed = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}[kind]
    for item in items:
        if isinstance(item, bool) != (kind == "bool") or not isinstance(item, allowed):
            raise ConfigError(f"--config {path}: {key!r} takes {_WORDS[kind]}, not {item!r}")
    return tuple(float(item) if kind == "float" else item for item in items)
