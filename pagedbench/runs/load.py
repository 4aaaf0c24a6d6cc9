"""Load: whether a real run had the cores that it wanted, or shared them with other programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

MIN_SHARE = 0.9
"""A run that got less than this share of the CPU time that it wanted was starved."""

MIN_FOREIGN_CORES = 0.1
"""It was others that starved it only if they kept this much of a core; threads also wait for each other."""


@dataclass(frozen=True, slots=True)
class Load:
    """Of a machine and of the process that runs on it, over the time of a run.

    Attributes:
        wall_s: how long.
        cpu_s: CPU time of the process, all its threads together.
        cores: that the process may use.
        foreign_cores: that others kept on average, another machine on the same host among them.
        cpu_share: of the time in which a thread could have run, the part in which it did; the least of
            the threads that do the work.
    """

    wall_s: float
    cpu_s: float
    cores: int
    foreign_cores: float
    cpu_share: float

    @property
    def is_busy(self) -> bool:
        """Did others take so much that the run's times say little of the program?"""
        return self.cpu_share < MIN_SHARE and self.foreign_cores > MIN_FOREIGN_CORES

    @property
    def sentence(self) -> str:
        """What others took."""
        return (
            f"This machine was busy: other programs kept {self.foreign_cores:.1f} of {self.cores} cores, "
            f"and this one got {100 * self.cpu_share:.0f} % of the CPU time that it wanted. "
            "Its times say little."
        )

    def document(self) -> dict[str, object]:
        """For JSON, the verdict with it."""
        return asdict(self) | {"busy": self.is_busy}
