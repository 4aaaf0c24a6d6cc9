"""The certificate of this machine: the rate that the load generator was measured to keep."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pagedbench.runs.machine import fingerprint

SAME_MACHINE = ("cpu", "cores", "usable_cores", "memory", "os", "python")
"""Facts of the machine on which a certificate depends."""


def certificate_file() -> Path:
    """Where the certificate of this machine is kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "pagedbench" / "generator.json"


def certified_rate(num_workers: int) -> float | None:
    """Requests a second with which the generator is known to keep up on this machine, with so many workers.

    None: nobody has measured that here, or not even the lowest rate was kept.
    """
    try:
        document: dict[str, Any] = json.loads(certificate_file().read_text(encoding="utf-8"))
        is_ours = document["machine"] == machine_facts() and document["workers"] == num_workers
        rate = document["rate"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(rate) if is_ours and isinstance(rate, int | float) else None


def machine_facts() -> dict[str, object]:
    """What must be the same for a certificate to hold."""
    facts = fingerprint()
    return {name: facts[name] for name in SAME_MACHINE}
