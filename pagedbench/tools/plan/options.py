"""Reads the options of `plan` other than those of a run; a wrong one is refused in one sentence."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.fleet.disaggregation import Link
from pagedbench.metrics.slo import UNITS
from pagedbench.simulation.memory_plan import parse_bytes
from pagedbench.tools.plan.simulation import Ratio

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

MOST_REPLICAS = 1024
DEFAULT_MOST = 256


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes to simulate, or the bounds of the search for the smallest that suffices."""

    fixed: tuple[int, ...] | None
    least: int
    most: int


def parse_sizes(text: str | None) -> Sizes:
    """Read `8`, `4,8` or `2:16`.

    Raises:
        ConfigError: it is something else, or a number is impossible.
    """
    if text is None:
        return Sizes(None, 1, DEFAULT_MOST)
    low, colon, high = text.partition(":")
    words = [low, high] if colon else text.split(",")
    numbers = [int(word) if re.fullmatch(r"\s*\d{1,9}\s*", word) else 0 for word in words]
    if not all(1 <= number <= MOST_REPLICAS for number in numbers):
        raise ConfigError(
            f"--replicas takes numbers from 1 to {MOST_REPLICAS}, as in 8 or 4,8, or bounds, as in 2:16, "
            f"not {text!r}"
        )
    if colon and numbers[0] > numbers[1]:
        raise ConfigError(f"--replicas {text}: the lower bound is above the upper one")
    if len(set(numbers)) < len(numbers) and not colon:
        raise ConfigError(f"--replicas {text} names a number twice")
    return Sizes(None if colon else tuple(numbers), min(numbers), max(numbers))


def parse_seconds(option: str, text: str) -> float:
    """Read `0.1`, `100ms` or `2s`.

    Raises:
        ConfigError: it is not a time of at least 0.
    """
    match = re.fullmatch(r"\s*([0-9.eE+-]+)(ms|s)?\s*", text)
    try:
        seconds = float(match[1]) * UNITS[match[2] or "s"] if match else math.nan
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"{option} takes a time of at least 0, such as 100ms or 0.1, not {text!r}")
    return seconds


def parse_times(option: str, text: str) -> tuple[float, ...]:
    """Read several times, each once.

    Raises:
        ConfigError: one cannot be read.
    """
    return tuple(dict.fromkeys(parse_seconds(option, word) for word in text.split(",")))


def parse_ratios(text: str | None) -> tuple[Ratio | None, ...]:
    """Read `1:1` or `1:1,2:1`.

    Raises:
        ConfigError: one cannot be read.
    """
    if text is None:
        return (None,)
    ratios = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4}):(\d{1,4})\s*", word)
        if match is None or not int(match[1]) or not int(match[2]):
            raise ConfigError(
                f"--disaggregate takes numbers of prefill and decode replicas, such as 1:1, not {word!r}"
            )
        ratios.append(Ratio(int(match[1]), int(match[2])))
    return tuple(dict.fromkeys(ratios))


def parse_link(bandwidth: str, latency: str) -> Link:
    """The link between prefill and decode replicas.

    Raises:
        ConfigError: the bandwidth is not a number of bytes per second, or the latency is not a time.
    """
    try:
        num_bytes = parse_bytes(re.sub(r"/s$", "", bandwidth.strip()))
    except ConfigError:
        num_bytes = 0
    if num_bytes <= 0:
        raise ConfigError(
            f"--transfer-bandwidth takes bytes per second above 0, such as 25GiB, not {bandwidth!r}"
        )
    return Link(float(num_bytes), parse_seconds("--transfer-latency", latency))


def parse_prices(text: str | None, devices: Items[str]) -> dict[str, float]:
    """Read `sim:h100=2.5,sim:a100-80gb=1.8`: the price of each card per hour.

    Raises:
        ConfigError: one cannot be read, or no fleet has the card.
    """
    prices: dict[str, float] = {}
    for word in () if text is None else text.split(","):
        device, equals, value = word.strip().rpartition("=")
        try:
            price = float(value) if equals else math.nan
        except ValueError:
            price = math.nan
        if not 0 <= price < math.inf:
            raise ConfigError(
                f"--price takes the price of a card per hour, as in sim:h100=2.5, not {word!r}"
            )
        if device not in devices:
            raise ConfigError(f"--price names {device}, and no fleet has such cards: {', '.join(devices)}")
        prices[device] = price
    return prices
