"""PageCosts: what committing pages and giving them back adds to a simulated iteration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.simulation.cards import CARDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Items

    from pagedbench.memory.pages import PageCounts, PageRun
    from pagedbench.scheduling.batch import Batch

KIB, MIB = 2**10, 2**20


@dataclass(frozen=True, slots=True)
class PageCost:
    """Seconds per page of one tensor, and per call for a run of pages."""

    commit: float
    give_back: float
    call: float
    source: str


_PAPER = (
    "stated, not verified: the calls that map, unmap and protect pages of a GPU, as vAttention's authors "
    "report them (arXiv 2405.04437)"
)
_MEASURED = (
    "stated: MADV_POPULATE_WRITE and MADV_DONTNEED called from Python, measured once on two cores of a "
    "virtual machine, Linux 6.18"
)

CARD_COSTS = {
    64 * KIB: PageCost(8e-6, 2e-6, 0.0, f"{_PAPER}, with its driver for small pages"),
    128 * KIB: PageCost(8.5e-6, 3e-6, 0.0, f"{_PAPER}, with its driver for small pages"),
    256 * KIB: PageCost(9e-6, 4e-6, 0.0, f"{_PAPER}, with its driver for small pages"),
    2 * MIB: PageCost(40e-6, 34e-6, 0.0, f"{_PAPER}: cuMemMap and cuMemSetAccess, cuMemUnmap"),
}
"""Pages of a card by their size. Their physical memory belongs to the engine from its start."""

SMALL = 4 * KIB
CPU_CALL = 3e-6
CPU_COSTS = {
    SMALL: PageCost(2.0e-6, 0.4e-6, CPU_CALL, _MEASURED),
    2 * MIB: PageCost(220e-6, 10e-6, CPU_CALL, _MEASURED),
}
"""Pages by size on a profiled machine (`sim:FILE`). Sizes between the two consist of small pages."""


def page_cost_of(device: str, page_bytes: int) -> PageCost:
    """The costs of a simulated device, as in `sim:a100-40gb` or `sim:FILE`.

    Raises:
        ConfigError: no costs are published for this page size.
    """
    if device.removeprefix("sim:") not in CARDS:
        small, number = CPU_COSTS[SMALL], page_bytes // SMALL
        several = replace(small, commit=number * small.commit, give_back=number * small.give_back)
        return CPU_COSTS.get(page_bytes, several)
    if page_bytes not in CARD_COSTS:
        known = ", ".join(f"{size // KIB}KiB" if size < MIB else f"{size // MIB}MiB" for size in CARD_COSTS)
        raise ConfigError(
            f"--page-size on a simulated card is one of {known}, the pages whose costs are published"
        )
    return CARD_COSTS[page_bytes]


class PageCosts:
    """The time of iterations that also commit pages, in each of `num_tensors` tensors, one by one.

    An iteration waits for the pages that it needs. Pages committed ahead of need delay it only if they take
    longer than everything else in the iteration.
    """

    def __init__(
        self, step_time: Callable[[Batch], float], cost: PageCost, num_tensors: int, counts: PageCounts
    ) -> None:
        self._step_time = step_time
        self._cost = cost
        self._num_tensors = num_tensors
        self._counts = counts

    def step_time(self, batch: Batch) -> float:
        """The seconds that a batch takes."""
        seconds, pages = self._step_time(batch), batch.pages
        if pages is None:
            return seconds
        waited = self._time(pages.given_back, self._cost.give_back)
        waited += self._time(pages.committed, self._cost.commit)
        ahead = self._time(pages.ahead, self._cost.commit)
        late = max(ahead - seconds, 0.0)
        self._counts.commit_time += waited + late
        self._counts.ahead_time += ahead
        return seconds + waited + late

    def _time(self, runs: Items[PageRun], seconds: float) -> float:
        if not runs:
            return 0.0
        num_pages = sum(run.num_pages for run in runs)
        return self._num_tensors * (seconds * num_pages + self._cost.call * len(runs))
