"""Spikes in words: what a spike did to a run, and which of several systems recovers first, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagedbench.metrics.blocking import OPTIONS
from pagedbench.metrics.spike import RECOVERED, TAIL_PERCENT, WINDOW, in_spike, spike_effect
from pagedbench.runs.numbers import counted, number, scale
from pagedbench.scheduling.batch import BlockedBy
from pagedbench.show.table import Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Items

    from pagedbench.metrics.spike import InSpike, SpikeEffect
    from pagedbench.runs.result import Result
    from pagedbench.workload.processes import Spike

NOT_RECOVERED = "had not recovered when arrivals ended"

NOTABLE = 1.05
"""Figures that differ by less than this factor do not explain a difference."""

OTHER_BAR = 2.0
"""If tails before the spike differ by this factor, recoveries are hard to compare."""

HELD_BY = {
    BlockedBy.MEMORY: "memory",
    BlockedBy.FRAGMENTATION: "memory",
    BlockedBy.POLICY: "its closed batch to end",
    BlockedBy.TRANSFER: "reads from the disk",
    **OPTIONS,
}
"""What the head of the queue waited for."""


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """A run that was hit by a spike."""

    label: str
    effect: SpikeEffect
    during: InSpike | None

    @property
    def recovery(self) -> float:
        return math.inf if self.effect.recovery is None else self.effect.recovery


def hits_of(results: Items[Result], labels: Items[str]) -> list[Hit]:
    """The runs whose trace has a spike, with its effects."""
    return [
        Hit(label, spike_effect(result.record, spike), in_spike(result.record, spike))
        for label, result in zip(labels, results, strict=True)
        if (spike := result.trace.spike) is not None
    ]


def spike_words(spike: Spike) -> str:
    """The spike of the arrival rate, such as "3 x the rate from 60 to 90 s"."""
    return f"{spike.factor:g} x the rate from {spike.start:g} to {spike.end:g} s"


def spike_sentences(result: Result) -> list[str]:
    """The effect of the spike on a single run, in sentences; empty without a spike."""
    spike = result.trace.spike
    if spike is None:
        return []
    effect = spike_effect(result.record, spike)
    before, peak = _time(effect.ttft_before), _time(effect.ttft_peak)
    return [
        f"Spike: {spike_words(spike)}: TTFT p{TAIL_PERCENT} {before} before and {peak} at its peak; "
        f"{_memory(effect)}{_recovery(effect)}.",
        *few_arrivals([result]),
    ]


def _memory(effect: SpikeEffect) -> str:
    """The queue, the pool and preemptions in the spike; empty for a server, where they are not known."""
    if effect.waiting_max is None or effect.kv_peak_pct is None or effect.num_preemptions is None:
        return ""
    return (
        f"the queue peaked at {effect.waiting_max:,}, token states at {effect.kv_peak_pct:.0f} % of the KV "
        f"pool; {counted(effect.num_preemptions, 'preemption')}; "
    )


def few_arrivals(results: Items[Result]) -> list[str]:
    """A caveat if few requests determine the tail before or after a spike."""
    least = 100 / (100 - TAIL_PERCENT)
    for result in results:
        spike, arrivals = result.trace.spike, [request.arrival_time for request in result.trace.requests]
        if spike is None or not spike.start:
            continue
        usual = WINDOW * sum(time < spike.start for time in arrivals) / spike.start
        if 0 < usual < least:
            return [
                f"{WINDOW:g} s of arrivals outside the spike are about {counted(round(usual), 'request')}: "
                f"a single slow one delays the recovery (a p{TAIL_PERCENT} needs {least:g})."
            ]
    return []


def _recovery(effect: SpikeEffect) -> str:
    if effect.obstacle is not None:
        return f"no recovery time: {effect.obstacle}"
    if effect.recovery is None:
        return NOT_RECOVERED
    return f"recovered {number(effect.recovery)} s after it"


def _time(seconds: float | None) -> str:
    """A time to first token in words; infinite where requests got none."""
    if seconds is None:
        return "undefined"
    if math.isinf(seconds):
        return "infinite (requests failed)"
    factor, unit = (1000.0, "ms") if seconds < 1 else scale(seconds, "s")
    factor = factor if unit != "s" else 1.0
    return f"{number(factor * seconds)} {unit}"


def spike_table(hits: Items[Hit]) -> Table:
    """One row per run."""
    columns = (
        Column("spike", is_key=True, is_text=True),
        Column("TTFT p95 before", "ms"),
        Column("TTFT p95 at peak", "ms"),
        Column("recovered after", "s"),
        Column("peak queue"),
        Column("peak tokens % of KV"),
        Column("preempted"),
        Column("batch size in spike"),
    )
    rows = []
    for hit in hits:
        effect = hit.effect
        times = (effect.ttft_before, effect.ttft_peak)
        rows.append(
            [
                hit.label,
                *(None if time is None else 1000 * time for time in times),
                "no" if effect.recovery is None and effect.obstacle is None else effect.recovery,
                effect.waiting_max,
                effect.kv_peak_pct,
                effect.num_preemptions,
                None if hit.during is None else hit.during.running,
            ]
        )
    return Table(columns, rows)


def recovery_sentences(hits: Items[Hit]) -> list[str]:
    """Which system recovers first, and why, from the records of each run in the spike."""
    known = [hit for hit in hits if hit.effect.obstacle is None]
    if len(known) < 2:
        return []
    first, *others = sorted(known, key=lambda hit: (hit.recovery, hit.effect.ttft_peak or 0.0))
    if math.isinf(first.recovery):
        return ["No system recovered from the spike before arrivals ended."]
    equal = [hit.label for hit in known if hit.recovery == first.recovery]
    later = [hit for hit in others if hit.recovery > first.recovery]
    when = f"{number(first.recovery)} s after the spike"
    if not later:
        return [f"All systems recover {when}."]
    verb = "recovers" if len(equal) == 1 else "recover"
    text = f"{', '.join(equal)} {verb} first, {when} ({_later_times(later)})"
    why = "; ".join(_reasons(first, list(dict.fromkeys((later[0], later[-1])))))
    why = why or "batch sizes, iteration times and preemptions do not say why"
    return [f"{text}: {why}.", *_other_bars(first, others)]


def _later_times(later: Items[Hit]) -> str:
    """The times at which the others recover, and which of them do not."""
    times = [f"{hit.label} {number(hit.recovery)} s" for hit in later if math.isfinite(hit.recovery)]
    never = [hit.label for hit in later if math.isinf(hit.recovery)]
    return ", ".join(times + ([f"{', '.join(never)} {NOT_RECOVERED}"] if never else []))


def _reasons(first: Hit, later: Items[Hit]) -> Iterator[str]:
    """For each of the others, the first notable difference recorded in the spike, if any."""
    own = first.during
    if own is None:
        return
    fewer = {hit: hit.during for hit in later if hit.during and own.running > NOTABLE * hit.during.running}
    if fewer:
        sizes = [
            f"{hit.label} {number(during.running)}{_held_back(during)}" for hit, during in fewer.items()
        ]
        yield (
            f"in the spike {first.label} runs {number(own.running)} requests at a time with token states "
            f"in {own.kv_token_states_pct:.0f} % of its pool, {', and '.join(sizes)}"
        )
    for hit in later:
        if hit in fewer or hit.during is None:
            continue
        if NOTABLE * own.step_time < hit.during.step_time:
            ms = [number(1000 * side.step_time) for side in (own, hit.during)]
            yield f"iterations of {first.label} take {ms[0]} ms in the spike, of {hit.label} {ms[1]} ms"
        elif (first.effect.num_preemptions or 0) < (hit.effect.num_preemptions or 0):
            counts = [item.effect.num_preemptions or 0 for item in (first, hit)]
            yield f"{first.label} preempts {counted(counts[0], 'time')}, {hit.label} {counts[1]:,}"


def _held_back(during: InSpike) -> str:
    """What kept a system from running more requests."""
    shares: dict[str, float] = {}
    for kind, share in during.blocked.items():
        shares[HELD_BY[kind]] = shares.get(HELD_BY[kind], 0.0) + share
    if not shares:
        return ""
    reason = max(shares, key=lambda reason: shares[reason])
    text = f" (its queue waits for {reason} {100 * shares[reason]:.0f} % of the time"
    return f"{text}, with token states in {during.kv_token_states_pct:.0f} % of the pool)"


def _other_bars(first: Hit, others: Items[Hit]) -> list[str]:
    """A caveat if another system had a much shorter or longer tail before the spike."""
    bars = {hit.label: hit.effect.ttft_before or 0.0 for hit in (first, *others)}
    own = bars[first.label]
    far = [
        f"{label} {_time(bar)}" for label, bar in bars.items() if max(own, bar) > OTHER_BAR * min(own, bar)
    ]
    if not far:
        return []
    return [
        f"A system has recovered at {RECOVERED:g} times its own TTFT p{TAIL_PERCENT} before the spike, "
        f"which differs: {first.label} {_time(own)}, {', '.join(far)}."
    ]
