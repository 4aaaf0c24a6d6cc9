"""Saved runs made by hand, without a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagedbench.metrics.formulas import METRICS
from pagedbench.runs.saved import SavedRun
from pagedbench.tools.compare.comparison import Side

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WALL, VIRTUAL = "cpu", "sim:a100-40gb"


def make_run(
    values: Mapping[str, float | None],
    *,
    folder: Path | str = "run",
    seed: int = 0,
    rate: float = 2.0,
    trace: str = "sharegpt",
    system: str = "paged",
    device: str = WALL,
    block_size: int = 16,
    kv_slots: int = 16_000,
    started: str = "2025-01-31T12:00:05Z",
    status: str = "complete",
    completed: int = 500,
    **plan: Any,
) -> SavedRun:
    """A run in which all is in order; metrics that are not given are 1."""
    figures = {metric.name: 1.0 for metric in METRICS} | {"overloaded": False, "valid": True}
    figures |= {"completed": completed, "failed": 0, **values}
    facts = {
        "model": "opt-125m",
        "weights": "dummy",
        "device": device,
        "device_name": "a machine",
        "dtype": "float32",
        "kernels": "native",
        "cost_model": None,
        "kv_slots": kv_slots,
    }
    return SavedRun(
        folder=Path(folder),
        manifest={
            "status": status,
            "started": started,
            "versions": {"numpy": "2"},
            "git_commit": None,
            "plan": facts | plan,
            "trace": {
                "name": trace,
                "sha256": f"{trace}{seed}" * 8,
                "arrivals_sha256": f"{rate}{seed}" * 8,
            },
        },
        summary={"run": {"rate": rate}, "all": {name: {"value": value} for name, value in figures.items()}},
        config={
            "system": system,
            "device": device,
            "trace": trace,
            "rate": rate,
            "seed": seed,
            "arrival": "poisson",
            "n": 1,
            "block_size": block_size,
            "preemption": "auto",
        },
    )


def repeats(metric: str, values: Iterable[float], **options: Any) -> list[SavedRun]:
    """Runs of one workload, in the order in which they were started."""
    return [
        make_run(
            {metric: value}, folder=f"{metric}-{index}", started=f"2025-01-31T12:{index:02d}:00Z", **options
        )
        for index, value in enumerate(values)
    ]


def side(label: str, runs: Iterable[SavedRun]) -> Side:
    return Side(label, tuple(runs))
