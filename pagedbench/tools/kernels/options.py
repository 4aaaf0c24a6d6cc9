"""The options of `kernels`, from text to values; errors are reported before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagedbench.config import ConfigError, flag
from pagedbench.option_values import CHOICES

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMATS = ("rich", "json", "csv", "md")
OPS = ("decode", "prefill", "write", "rotate_write", "copy", "swap", "norm", "linear", "activation",
       "argmax")  # fmt: skip
"""The names in `plan.OPERATIONS`, which imports torch."""

POOL_OPS = ("decode", "prefill", "write", "rotate_write", "copy", "swap")
"""Ops that read or write the KV pool."""

HIGHEST = {"context": 2**20, "batch": 4096, "block_size": 4096, "repeats": 10_000}
"""A larger value is taken for a typing error."""

DEFAULT = {"context": "64,256,1024,4096", "batch": "1,8,32", "repeats": "15"}
QUICK = {"context": "256", "batch": "4", "repeats": "5"}
"""The defaults of `--quick`."""


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """The options as values. `kernels`: None: the fastest that run here, and the reference."""

    ops: tuple[str, ...]
    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    block_sizes: tuple[int, ...]
    model: str
    dtype: str
    kv_dtypes: tuple[str, ...]
    device: str
    kernels: tuple[str, ...] | None
    rounds: int
    format: str
    output: Path | None
    force: bool

    @property
    def sample_time(self) -> float:
        """The least seconds of a sample."""
        return 0.002 if self.rounds > int(QUICK["repeats"]) else 0.0005


def read_options(typed: Mapping[str, Any]) -> KernelOptions:
    """The options as values.

    Args:
        typed: option -> its text or switch; None: the default.

    Raises:
        ConfigError: a value is unknown or impossible, or has no effect.
    """
    values: dict[str, Any] = dict(QUICK if typed["quick"] else DEFAULT)
    values |= {name: value for name, value in typed.items() if value is not None}
    for name, known in {"format": FORMATS, "dtype": CHOICES["dtype"]}.items():
        if values[name] not in known:
            raise ConfigError(f"{flag(name)} is one of {', '.join(known)}, not {values[name]!r}")
    if values["device"].startswith("sim:"):
        raise ConfigError(
            f"--device {values['device']} computes nothing that could be timed: take cpu or cuda"
        )
    if values["force"] and "output" not in values:
        raise ConfigError("--force has no effect without --output: nothing is written")
    repeats = _whole_numbers("repeats", values["repeats"])
    if len(repeats) > 1:
        raise ConfigError(f"--repeats takes one whole number, not {values['repeats']!r}")
    ops = OPS if values["op"] == "all" else _words("op", values["op"], (*OPS, "all"))
    kv_dtypes = _words("kv_dtype", values["kv_dtype"], CHOICES["kv_dtype"])
    if kv_dtypes != ("auto",) and not {*ops} & {*POOL_OPS}:
        raise ConfigError(f"--kv-dtype has no effect on {', '.join(ops)}: they do not use the KV pool")
    return KernelOptions(
        ops=ops,
        contexts=_whole_numbers("context", values["context"]),
        batches=_whole_numbers("batch", values["batch"]),
        block_sizes=_whole_numbers("block_size", values["block_size"]),
        model=values["model"],
        dtype=values["dtype"],
        kv_dtypes=kv_dtypes,
        device=values["device"],
        kernels=_words("kernels", values["kernels"], CHOICES["kernels"]) if "kernels" in values else None,
        rounds=repeats[0],
        format=values["format"],
        output=Path(values["output"]) if "output" in values else None,
        force=values["force"],
    )


def _parts(name: str, text: str) -> list[str]:
    """The parts of a comma-separated list, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise ConfigError(f"{flag(name)} has an empty value: {text!r}")
    return list(dict.fromkeys(parts))


def _words(name: str, text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    parts = _parts(name, text)
    for part in parts:
        if part not in known:
            raise ConfigError(f"{flag(name)} takes {', '.join(known)}, not {part!r}")
    if "all" in parts:
        raise ConfigError(f"{flag(name)} all already means every one of them: name no others")
    return tuple(parts)


def _whole_numbers(name: str, text: str) -> tuple[int, ...]:
    numbers = []
    for part in _parts(name, text):
        if not part.removeprefix("-").isdecimal() or not part.isascii():
            raise ConfigError(f"{flag(name)} takes whole numbers, not {part!r}")
        if len(part) > 12 or not 1 <= int(part) <= HIGHEST[name]:
            raise ConfigError(f"{flag(name)} must be from 1 to {HIGHEST[name]}, not {part}")
        numbers.append(int(part))
    return tuple(dict.fromkeys(numbers))
