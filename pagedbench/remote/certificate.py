"""The certificates of this machine: the load that its load generator was measured to keep up with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pagedbench.errors import ConfigError
from pagedbench.metrics.client import Peak
from pagedbench.runs.machine import fingerprint

SAME_MACHINE = ("cpu", "cores", "usable_cores", "memory", "os", "python")
"""Facts of the machine on which a certificate depends."""


def certificate_file(num_workers: int) -> Path:
    """Where this machine's certificate for that number of workers is kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "pagedbench" / f"generator-{num_workers}.json"


def check_certificate_place(num_workers: int) -> None:
    """Refuse a cache folder that is not writable; to be called before the measurement.

    Raises:
        ConfigError: its folder cannot be made or written to.
    """
    folder = certificate_file(num_workers).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_open = os.access(folder, os.W_OK)
    except OSError:
        is_open = False
    if not is_open:
        raise ConfigError(f"{folder} cannot be written to: set XDG_CACHE_HOME to a folder that can")


def certified(num_workers: int) -> Peak | None:
    """The busiest seconds that the generator keeps up with on this machine, with `num_workers` workers.

    None: it was not measured here, or could not keep even the lowest rate.
    """
    try:
        document: dict[str, Any] = json.loads(certificate_file(num_workers).read_text(encoding="utf-8"))
        is_ours = document["machine"] == machine_facts() and document["workers"] == num_workers
        peak = Peak(float(document["peak"]["requests"]), float(document["peak"]["chunks"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return peak if is_ours else None


def machine_facts() -> dict[str, object]:
    """The facts of this machine that must not change while a certificate is valid."""
    facts = fingerprint()
    return {name: facts[name] for name in SAME_MACHINE}
