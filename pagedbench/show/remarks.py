"""What a reader must know before the figures: overload, invalid runs, and a pool that never filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.metrics.blocking import OPTIONS, WAITS_FOR, has_filled, seconds_waited
from pagedbench.metrics.uncertainty import obstacle_of, uncertainties
from pagedbench.runs.memory_bandwidth import is_same, variation_sentence
from pagedbench.runs.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pagedbench.metrics.records import RunRecord

CERTAIN = {
    "ttft_mean_ms": ("mean TTFT", "ms"),
    "normalized_latency_mean_s": ("mean normalized latency", "s/token"),
}
"""Metrics whose intervals are reported for a run, with their titles and units."""

NOTABLE_SAVING = 0.5
"""Savings by sharing below this percentage of the blocks are not mentioned."""

OVERLOADED = (
    "Overloaded: requests arrived faster than they were served, so latencies grow with the run's length."
)


def peak_use(record: RunRecord) -> float:
    """The largest share of the pool that was taken at once, in percent."""
    if not len(record.steps):
        return 0.0
    taken = record.capacity - record.steps["kv_free"] - record.steps["kv_unusable"]
    return 100 * float(taken.max()) / record.capacity


def sharing_sentences(values: Mapping[str, object]) -> list[str]:
    """What sharing saved, and how much of the prompts the prefix cache had. `values`: by metric name."""
    sentences = []
    saved, found = values["kv_shared_saved_pct"], values["prefix_hit_pct"]
    if isinstance(saved, float) and saved > NOTABLE_SAVING:
        sentences.append(f"Sharing saved {saved:.0f} % of the blocks.")
    if isinstance(found, float):
        tiers = {name: values[f"prefix_hit_{name}_pct"] for name in ("device", "host", "disk")}
        known = [
            f"{share:.0f} % on the {name}" for name, share in tiers.items() if isinstance(share, float)
        ]
        where = f": {', '.join(known)}" if known else ""
        sentences.append(f"Prefix cache: {found:.0f} % of prompt tokens were found{where}.")
    return sentences


def bandwidth_sentences(readings: Iterable[Iterable[float | None]]) -> list[str]:
    """A sentence if memory bandwidths differ: the machine then changed during the runs.

    Args:
        readings: before and after each run, in bytes per second; None if nothing was read.
    """
    known = [reading for own in readings for reading in own if reading is not None]
    if not known or is_same(min(known), max(known)):
        return []
    return [variation_sentence(min(known), max(known))]


def certainty_sentence(record: RunRecord) -> str:
    """The 95 % intervals of two means over runs with other seeds, estimated from this run; or why not."""
    obstacle = obstacle_of(record)
    if obstacle is not None:
        return f"No 95 % intervals: {obstacle}."
    known, parts = uncertainties(record, CERTAIN), []
    for name, (title, unit) in CERTAIN.items():
        item = known[name]
        if item.interval is None:
            parts.append(f"{title}: {item.obstacle}")
        else:
            parts.append(f"{title} {' to '.join(map(number, item.interval))} {unit}")
    return f"95 % intervals of the expected value, from this run: {'; '.join(parts)}."


def bottleneck_sentences(records: Sequence[RunRecord]) -> list[str]:
    """If memory kept no request waiting in any of the runs: a sentence that says so, and what did.

    No sentence if runs crashed or were cut short.
    """
    records = [record for record in records if record.client is None]
    if not records or any(record.interrupted or has_filled(record) for record in records):
        return []
    sentence = f"The KV pool never filled (at most {max(map(peak_use, records)):.0f}% was taken): "
    each = [seconds_waited(record) for record in records]
    waited = {kind: sum(seconds[kind] for seconds in each) for kind in each[0]}
    if not any(waited.values()):
        return [f"{sentence}memory was not the bottleneck, and systems are expected to tie."]
    reason = max(waited, key=lambda kind: waited[kind])
    share = 100 * waited[reason] / sum(waited.values())
    held = WAITS_FOR[reason] + (", which limits an iteration" if reason in OPTIONS else "")
    return [
        f"{sentence}memory was not the bottleneck. {share:.0f} % of the time in the queue was for {held}."
    ]
