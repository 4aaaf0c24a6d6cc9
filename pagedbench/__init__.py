"""pagedbench: what KV-cache memory management buys, measured.

    import pagedbench as pb

    run = pb.simulate(system="paged", model="opt-13b", device="sim:a100-40gb", rate=2.0, duration=600)
    run.summary["normalized_latency_mean_s"], run.requests, run.steps

`simulate`, `run` and `sweep` take the options of `pagedbench run`, and `read_run` reads a saved run.
`KVManager` and `Scheduler` are the interfaces for your own memory managers and batching policies;
`VictimPolicy`, `EvictionPolicy` and `AdmissionPolicy` for rules of preemption, eviction and admission.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from pagedbench.config import InputError
    from pagedbench.memory.eviction import EvictionPolicy
    from pagedbench.memory.manager import KVManager
    from pagedbench.runs.api import Run, read_run, run, simulate, sweep
    from pagedbench.scheduling.admission import AdmissionPolicy
    from pagedbench.scheduling.scheduler import Scheduler
    from pagedbench.scheduling.victims import VictimPolicy

__version__ = "0.1.0"

if "OMP_WAIT_POLICY" not in os.environ:
    # Torch's threads (OpenMP's) spin for milliseconds after each of its operations, on cores that the
    # kernels of this package or another program could use. This makes it about 0.1 ms, if torch is not
    # loaded yet.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

__all__ = ["AdmissionPolicy", "EvictionPolicy", "InputError", "KVManager", "Run", "Scheduler",
           "VictimPolicy", "read_run", "run", "simulate", "sweep"]  # fmt: skip

_MODULES = {
    "AdmissionPolicy": "pagedbench.scheduling.admission",
    "EvictionPolicy": "pagedbench.memory.eviction",
    "InputError": "pagedbench.config",
    "KVManager": "pagedbench.memory.manager",
    "Scheduler": "pagedbench.scheduling.scheduler",
    "VictimPolicy": "pagedbench.scheduling.victims",
}
"""Where a public name is defined, if not in `pagedbench.runs.api`."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import pagedbench` itself imports nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES.get(name, "pagedbench.runs.api")), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
