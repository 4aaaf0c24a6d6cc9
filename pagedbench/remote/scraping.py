"""A server's own metrics during a run: samples of its Prometheus metrics, once per second."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.remote.http import OK, get

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from numpy.typing import NDArray

    from pagedbench.loadgen.target import Target

SERVER_ERROR = 500
PERIOD = 1.0
"""Seconds between two samples."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """A column of server.csv, and the metrics it is read from: the first that the server has.

    Attributes:
        scale: 100 if the server gives a share.
        is_mean: for several engines, use the mean instead of the sum.
    """

    column: str
    metrics: tuple[str, ...]
    scale: float = 1.0
    is_mean: bool = False


GAUGES = (
    Gauge("running", ("vllm:num_requests_running", "sglang:num_running_reqs",
                      "llamacpp:requests_processing", "tgi_batch_current_size")),
    Gauge("waiting", ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred",
                      "tgi_queue_size")),
    Gauge("kv_use_pct", ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage",
                         "llamacpp:kv_cache_usage_ratio"), 100.0, is_mean=True),
    Gauge("preemptions", ("vllm:num_preemptions_total", "vllm:num_preemptions")),
    Gauge("prefix_queried", ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_queries")),
    Gauge("prefix_hits", ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_hits")),
    Gauge("hit_rate_pct", ("sglang:cache_hit_rate",), 100.0, is_mean=True),
)  # fmt: skip

LINE = re.compile(r"([A-Za-z_:][\w:]*)(\{.*\})?\s+(\S+)")
LABEL = re.compile(r'(\w+)="([^"]*)"')
POOL_METRIC = "vllm:cache_config_info"

Samples = dict[str, "NDArray[np.float64]"]
"""The columns of server.csv: `t_s`, and one per gauge; NaN if the server does not have it."""


def metric_lines(text: str) -> Iterable[tuple[str, dict[str, str], float]]:
    """Name, labels and value of every line of Prometheus' text format."""
    for line in text.splitlines():
        match = None if line.startswith("#") else LINE.match(line)
        if match is None:
            continue
        try:
            yield match[1], dict(LABEL.findall(match[2] or "")), float(match[3])
        except ValueError:
            continue


def gauges_of(text: str) -> list[float]:
    """The value of each gauge; NaN if the server has none of its metrics.  # [len(GAUGES)]"""
    values: dict[str, list[float]] = {}
    for name, _, value in metric_lines(text):
        values.setdefault(name, []).append(value)
    found = []
    for gauge in GAUGES:
        own = next((values[name] for name in gauge.metrics if name in values), [])
        total = sum(own) / (len(own) if gauge.is_mean else 1) if own else np.nan
        found.append(gauge.scale * total)
    return found


def pool_of(target: Target) -> int | None:
    """Tokens in the server's KV pool, if its metrics report them."""
    for name, labels, _ in metric_lines(_text(target) or ""):
        if name == POOL_METRIC and {"num_gpu_blocks", "block_size"} <= labels.keys():
            sizes = labels["num_gpu_blocks"], labels["block_size"]
            return int(sizes[0]) * int(sizes[1]) if all(map(str.isdecimal, sizes)) else None
    return None


def _text(target: Target) -> str | None:
    """The server's metrics as text, empty if it has none; None: it does not answer now."""
    answer = get(target, f"{target.path}/metrics")
    if answer is None or answer[0] >= SERVER_ERROR:
        return None
    return answer[1].decode("utf-8", "replace") if answer[0] == OK else ""


def is_idle(target: Target) -> bool:
    """Does the server report that nothing runs or waits? Assumed if it has no such metrics."""
    text = _text(target)
    if text is None:
        return False
    running_and_waiting = gauges_of(text)[:2]
    return not any(value > 0 for value in running_and_waiting)


class Scraper:
    """Samples the metrics of a server in a thread while the `with` block runs.

    A server without metrics is asked once; one that does not answer is asked again. The last sample is
    taken when the block has ended. `samples` counts seconds from `zero`, on the monotonic clock.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._ended = threading.Event()
        self._rows: list[list[float]] = []
        self._has_begun = False
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        has_metrics, is_last = True, False
        while has_metrics and not is_last:
            is_last = self._ended.wait(PERIOD if self._has_begun else 0)
            has_metrics = self._sample()

    def _sample(self) -> bool:
        """Keep the server's present metrics. False: it has none."""
        before, text = time.monotonic(), _text(self._target)
        self._has_begun = True
        if text is None:
            return True
        values = gauges_of(text)
        if not np.isnan(values).all():
            self._rows.append([(before + time.monotonic()) / 2, *values])
        return bool(self._rows)

    def samples(self, zero: float) -> Samples | None:
        """What was read; None from a server without metrics."""
        if not self._rows:
            return None
        time_column, *columns = np.array(self._rows, dtype=np.float64).T
        names = (gauge.column for gauge in GAUGES)
        return {"t_s": time_column - zero, **dict(zip(names, columns, strict=True))}
