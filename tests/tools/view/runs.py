"""Small runs in virtual time, saved with their events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.runs.api import simulate

if TYPE_CHECKING:
    from pathlib import Path

    from pagedbench.runs.api import Run


def saved_run(folder: Path, **options: object) -> Run:
    """Ten seconds of requests on a pool that is too small for them."""
    small = {"model": "opt-13b", "rate": 4.0, "duration": 10.0, "kv_slots": 3000, "save_events": True}
    return simulate(**{**small, **options}, output=folder)  # type: ignore[arg-type]
