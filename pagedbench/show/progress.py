"""Live progress: a thread that reads the recorder of a running engine without slowing the engine down."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.runs.numbers import number, span
from pagedbench.show.console import shows_live, stderr_console

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Group
    from rich.live import Live

    from pagedbench.engine import Engine
    from pagedbench.workload.trace import Trace

QUIET_TIME = 1.0
"""Seconds before progress appears; a run that ends sooner needs none."""

REDRAW_TIME = 0.25
LINE_TIME = 10.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a run. Times in seconds: `now` of the run's clock, `left` of the reader's."""

    now: float
    num_requests: int
    arrived: int
    done: int
    running: int
    waiting: int
    kv_use: float  # percent of the pool
    tokens_per_second: float
    left: float | None

    def fields(self) -> list[tuple[str, str]]:
        """Labels and figures, in reading order."""
        return [
            ("arrived", f"{self.arrived:,}/{self.num_requests:,}"),
            ("done", f"{self.done:,}"),
            ("running", f"{self.running:,}"),
            ("waiting", f"{self.waiting:,}"),
            ("KV", f"{self.kv_use:.0f}%"),
            ("tokens/s", number(self.tokens_per_second)),
            ("left", "?" if self.left is None else span(self.left)),
        ]

    def line(self) -> str:
        """One plain line."""
        return f"[{self.now:.0f} s] " + ", ".join(f"{label} {figure}" for label, figure in self.fields())


class Progress:
    """Shows the state of a run while the `with` block runs it.

    Args:
        mode: "rich", "plain", "none", or "auto": rich on a terminal, plain elsewhere.
        title: printed before each line if several runs follow each other.
    """

    def __init__(self, engine: Engine, trace: Trace, mode: str, title: str = "") -> None:
        self._engine = engine
        self._trace = trace
        self._title = title
        self._total_tokens = num_output_tokens(trace)
        self._console = stderr_console()
        self._is_live = mode == "rich" or (mode == "auto" and shows_live(self._console))
        self._ended = threading.Event()
        self._started = time.perf_counter()
        self._previous = (0.0, 0)
        self._thread = None if mode == "none" else threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Progress:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def snapshot(self) -> Snapshot:
        """Read the counts, which may differ by one iteration."""
        recorder, now = self._engine.recorder, self._engine.clock.now
        usage = recorder.last_usage
        taken = 0 if usage is None else usage.capacity - usage.free - usage.unusable
        last_time, last_tokens = self._previous
        elapsed = now - last_time
        running, waiting = recorder.last_batch
        tokens = recorder.num_tokens
        self._previous = (now, tokens)
        return Snapshot(
            now=now,
            num_requests=len(self._trace.requests),
            arrived=recorder.num_arrived,
            done=recorder.num_finished,
            running=running,
            waiting=waiting,
            kv_use=100 * taken / recorder.capacity,
            tokens_per_second=(tokens - last_tokens) / elapsed if elapsed > 0 else 0.0,
            left=self._time_left(tokens, now),
        )

    def _time_left(self, tokens: int, now: float) -> float | None:
        """Time for the remaining tokens at the mean speed so far, or for remaining arrivals if longer."""
        if not tokens:
            return None
        by_tokens = (self._total_tokens - tokens) * (time.perf_counter() - self._started) / tokens
        by_arrivals = 0.0 if self._engine.clock.is_virtual else self._trace.last_arrival - now
        return max(by_tokens, by_arrivals, 0.0)

    def _watch(self) -> None:
        if self._is_live:
            if not self._ended.wait(QUIET_TIME):
                self._draw()
            return
        while not self._ended.wait(LINE_TIME):
            prefix = f"{self._title}: " if self._title else ""
            self._console.print(f"{prefix}{self.snapshot().line()}", markup=False, soft_wrap=True)

    def _draw(self) -> None:
        from rich.live import Live

        live: Live
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self._panel(), refresh=True)
                if self._ended.wait(REDRAW_TIME):
                    return

    def _panel(self) -> Group:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        snapshot = self.snapshot()
        bar = ProgressBar(total=self._total_tokens, completed=self._engine.recorder.num_tokens, width=40)
        head = Table.grid(padding=(0, 2))
        head.add_row(self._title or "running", bar, f"{snapshot.now:.0f} s")
        figures = Table.grid(padding=(0, 2))
        labels, values = zip(*snapshot.fields(), strict=True)
        figures.add_row(*labels, style="dim")
        figures.add_row(*values)
        return Group(head, figures)


TOKENS_PER_WARM_UP_TOKEN = 0.7
"""Output speed of a run divided by that of its warm-up, whose prompts and contexts are short.

Measured on a ShareGPT run of OPT-125M on two cores: 203 against 303 tokens/s.
"""

NOTABLE_TIME = 60.0
"""Seconds; a longer run is announced."""


def num_output_tokens(trace: Trace) -> int:
    """Output tokens of all sequences of all requests."""
    return sum(request.reply_len * request.sampling.width for request in trace.requests)


def estimated_time(trace: Trace, tokens_per_second: float) -> float:
    """Seconds that a run on a wall clock takes: its arrivals, or its output tokens if they take longer.

    Args:
        tokens_per_second: output speed of the warm-up.
    """
    num_tokens = num_output_tokens(trace)
    return max(trace.last_arrival, num_tokens / (tokens_per_second * TOKENS_PER_WARM_UP_TOKEN))
