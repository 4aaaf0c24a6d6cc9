"""A folder like Linux' /proc, in which time passes as a test says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TICKS = 100
"""A second, in /proc/stat."""


@dataclass
class FakeProc:
    """Four cores, of which this process uses some, and the threads of this process.

    Attributes:
        user, stolen: seconds of every core.
        own: CPU time of this process in seconds.
        threads: id -> seconds in which it ran, and in which it waited.
    """

    root: Path
    user: list[float] = field(default_factory=lambda: [100.0] * 4)
    stolen: list[float] = field(default_factory=lambda: [1.0] * 4)
    own: float = 50.0
    threads: dict[str, tuple[float, float]] = field(default_factory=lambda: {"7": (40.0, 1.0)})

    def write(self) -> None:
        cores = [
            f"cpu{number} {TICKS * user:.0f} 3 4 9999 9999 5 6 {TICKS * stolen:.0f} 0 0"
            for number, (user, stolen) in enumerate(zip(self.user, self.stolen, strict=True))
        ]
        (self.root / "self" / "task").mkdir(parents=True, exist_ok=True)
        (self.root / "stat").write_text("\n".join(["cpu  1 2 3 4 5 6 7 8 9 10", *cores, "ctxt 1\n"]))
        times = f"{TICKS * self.own / 4:.0f} {TICKS * self.own * 3 / 4:.0f}"
        (self.root / "self" / "stat").write_text(
            f"7 (a) b (c) R 1 1 1 0 -1 0 1 2 3 4 {times} 8 9 20 0 2 0\n"
        )
        for thread, (ran, waited) in self.threads.items():
            folder = self.root / "self" / "task" / thread
            folder.mkdir(exist_ok=True)
            (folder / "schedstat").write_text(f"{ran * 1e9:.0f} {waited * 1e9:.0f} 12\n")
