"""Facts about the processor, from Linux's /proc/cpuinfo."""

from __future__ import annotations

from pathlib import Path


def cpu_fact(name: str) -> str | None:
    """A fact of the first core, such as its "model name" or "flags"; None elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    facts = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in facts if key.strip() == name), None)
