"""What saved runs of equal requests show, in sentences: the fast systems, why, and the stored tokens."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pagedbench.metrics.attribution import PARTS
from pagedbench.runs.numbers import number
from pagedbench.tools.report.run_labels import run_labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pagedbench.metrics.attribution import Attribution
    from pagedbench.runs.saved import SavedRun

LATENCY = "normalized_latency_mean_s"


def findings(runs: Sequence[SavedRun], explained: Mapping[Path, Attribution]) -> list[str]:
    """Findings for every trace, model and device: the fast systems, why, and how full the pools are."""
    sentences = []
    for group in _equal_requests(runs):
        pairs = zip(group, run_labels(group), strict=True)
        ranked = sorted(pairs, key=lambda pair: float(pair[0].values[LATENCY]))
        (best, first), *others = ranked
        lowest, trace = float(best.values[LATENCY]), best.manifest["trace"]
        texts = [
            f"{trace['name']}, {trace['arrival']}: {first} has a mean normalized latency of "
            f"{number(lowest)} s/token"
        ]
        values = [(label, float(run.values[LATENCY])) for run, label in others]
        texts += [", ".join(f"{label} {number(own)} ({number(own / lowest)}x)" for label, own in values)]
        causes = [
            f"{label} {_largest_part(explained[run.folder])}"
            for run, label in ranked
            if run.folder in explained
        ]
        known = [(run, label) for run, label in ranked if not run.is_of_server]
        shares = [f"{label} {run.values['kv_token_states_pct']:.1f} %" for run, label in known]
        sentences += ["; ".join(filter(None, texts)) + "."]
        sentences += [f"Largest part of the mean latency: {'; '.join(causes)}."] if causes else []
        sentences += [f"Share of the KV pool that holds tokens: {', '.join(shares)}."] if shares else []
    return sentences or ["No run is complete: there is nothing to compare."]


def _equal_requests(runs: Sequence[SavedRun]) -> list[list[SavedRun]]:
    """For every trace, model and device, the runs with the most common arrivals.

    If several are equally common: the highest rate at which some system is not overloaded.
    """
    groups: dict[tuple[str, ...], dict[str, list[SavedRun]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.is_complete and run.values.get(LATENCY) is not None:
            trace, plan = run.manifest["trace"], run.manifest["plan"]
            groups[trace["name"], plan["model"], plan["device"]][trace["arrivals_sha256"]].append(run)

    def rank(group: list[SavedRun]) -> tuple[int, bool, float]:
        return len(group), not all(run.values["overloaded"] for run in group), group[0].rate or 0.0

    return [max(by_arrivals.values(), key=rank) for by_arrivals in groups.values()]


def _largest_part(found: Attribution) -> str:
    part = max(PARTS, key=lambda part: found.seconds[part.name])
    return f"{part.stage}, {part.label} ({100 * found.seconds[part.name] / found.mean_latency:.0f} %)"
