"""Hits of the prefix cache, by the tier on which they were found."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pagedbench.metrics.observed import Observed
    from pagedbench.metrics.records import RunRecord


def prefix_hit_pct(record: RunRecord) -> float | None:
    """Percent of the prompt tokens looked up that were found in any tier; None if none was looked up."""
    hits, queried = (record.steps[name].sum() for name in ("prefix_hits", "prefix_queried"))
    return 100 * float(hits / queried) if queried else None


def tier_hits(record: RunRecord) -> dict[str, int] | None:
    """Prompt tokens found, by tier; None without tiers."""
    counts = record.tier_counts
    if counts is None:
        return None
    found = int(record.steps["prefix_hits"].sum())
    device = found - counts.host_hits - counts.disk_hits
    return {"device": device, "host": counts.host_hits, "disk": counts.disk_hits}


def tier_hit_pct(tier: str) -> Callable[[Observed], float | None]:
    """The formula of a tier's share of the prompt tokens looked up, in percent."""

    def formula(run: Observed) -> float | None:
        hits, queried = tier_hits(run.record), int(run.record.steps["prefix_queried"].sum())
        return 100 * hits[tier] / queried if hits is not None and queried else None

    return formula
