"""How numbers are printed: three significant digits, thousands separated, a dash for None."""

from __future__ import annotations

import math

MINIMUM_FOR_P99 = 368
"""With fewer requests, a p99 is little more than the slowest request, and is shown dimmed."""

SMALLEST = 1e-4
"""The smallest number that has three digits in six decimals."""

MOST_MS, MOST_S = 60_000, 6_000
"""Times from which milliseconds are shown as seconds, and seconds as minutes."""


def number(value: object) -> str:
    """A count in full, a measure with three significant digits, None as "-"."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "-"
    if math.isinf(value) or value == 0:
        return f"{value:g}"
    if abs(value) < SMALLEST:
        return f"{value:.2e}"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(decimals, 0), 6)}f}"


def ratio(value: object, reference: object) -> str:
    """`value` as a multiple of `reference`; empty if there is no reference."""
    if not isinstance(value, int | float) or not isinstance(reference, int | float) or not reference:
        return ""
    return f"{number(float(value / reference))}x"


def scale(largest: float, unit: str) -> tuple[float, str]:
    """The factor and the unit in which values up to `largest`, in `unit`, are easy to read."""
    if unit == "ms" and largest >= MOST_MS:
        factor, unit = scale(largest / 1000, "s")
        return factor / 1000, unit
    return (1 / 60, "min") if unit == "s" and largest >= MOST_S else (1.0, unit)


def gibibytes(num_bytes: float) -> str:
    """Bytes in GiB, in MiB below a tenth of one."""
    return f"{num_bytes / 2**30:,.2f} GiB" if num_bytes >= 2**30 / 10 else f"{num_bytes / 2**20:,.2f} MiB"


def span(seconds: float) -> str:
    """A duration in the two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(count: int, noun: str) -> str:
    """A count with its noun: "1 request", "2,000 requests"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
