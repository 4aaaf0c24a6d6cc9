"""Autoscaling: how many replicas there should be, by the reports of the present ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from pagedbench.fleet.replica_view import Load


class Signal(StrEnum):
    """The quantity that is kept near its target."""

    QUEUE = "queue"  # waiting requests per replica
    KV = "kv"  # share of the KV pool in use


TARGETS = {Signal.QUEUE: 1.0, Signal.KV: 0.7}


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """Keeps a mean over replicas near its target, as Kubernetes' horizontal autoscaler does.

    Attributes:
        target: target of the signal; the wanted number of replicas is the present sum divided by it.
        least, most: the bounds of the number of replicas.
        interval: seconds between two decisions; at most one replica leaves at each.
        cold_start: seconds from the decision until a new replica takes requests; this time is paid for.
    """

    signal: Signal
    target: float
    least: int
    most: int
    interval: float
    cold_start: float

    def wanted(self, loads: Items[Load], num_replicas: int) -> int:
        """How many replicas there should be.

        Args:
            loads: the reports of the replicas that take requests.
            num_replicas: the number of replicas, including those that are still starting.
        """
        is_queue = self.signal is Signal.QUEUE
        total = sum(load.num_waiting if is_queue else load.kv_use for load in loads)
        least = num_replicas if is_queue and total else num_replicas - 1  # none leaves while requests wait
        wanted = max(math.ceil(total / self.target), least)
        return min(max(wanted, self.least), self.most)


def autoscaler_of(text: str, least: int, most: int, interval: float, cold_start: float) -> Autoscaler:
    """Read `queue`, `queue:2`, `kv` or `kv:0.8`.

    Raises:
        ConfigError: it is something else, or an impossible number.
    """
    name, colon, value = text.partition(":")
    if name not in list(Signal):
        raise ConfigError(f"--autoscale is queue or kv, with a target as in kv:0.7, not {text!r}")
    signal = Signal(name)
    try:
        target = float(value) if colon else TARGETS[signal]
    except ValueError:
        target = math.nan
    if not 0 < target < math.inf or (signal is Signal.KV and target > 1):
        limit = " and at most 1" if signal is Signal.KV else ""
        raise ConfigError(
            f"the target of --autoscale {name} must be a number above 0{limit}, not {value!r}"
        )
    return Autoscaler(signal, target, least, most, interval, cold_start)
