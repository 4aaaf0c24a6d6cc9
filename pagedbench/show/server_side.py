"""A run against a server in words: how requests were sent, and the server's own metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagedbench.loadgen.protocols.table import PROTOCOLS
from pagedbench.metrics.client import tokens_per_chunk
from pagedbench.runs.numbers import number

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pagedbench.runs.result import Result


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """A server's own metrics over the time of a run; None for those that it does not have.

    Attributes:
        preemptions, hit_pct: those of this run, from the counters at its end and at its beginning.
    """

    running_mean: float | None
    running_max: float | None
    waiting_max: float | None
    kv_use_mean_pct: float | None
    kv_use_max_pct: float | None
    preemptions: float | None
    hit_pct: float | None


def server_figures(result: Result) -> ServerFigures | None:
    """The figures from the samples of a run; None without samples."""
    if result.server is None or result.server.samples is None:
        return None
    known = {
        name: values[np.isfinite(values)]
        for name, values in result.server.samples.items()
        if np.isfinite(values).any()
    }
    queried, hits = (_growth(known.get(name)) for name in ("prefix_queried", "prefix_hits"))
    return ServerFigures(
        running_mean=_mean(known.get("running")),
        running_max=_max(known.get("running")),
        waiting_max=_max(known.get("waiting")),
        kv_use_mean_pct=_mean(known.get("kv_use_pct")),
        kv_use_max_pct=_max(known.get("kv_use_pct")),
        preemptions=_growth(known.get("preemptions")),
        hit_pct=100 * hits / queried if queried and hits is not None else _mean(known.get("hit_rate_pct")),
    )


def _mean(values: NDArray[np.float64] | None) -> float | None:
    return None if values is None else float(values.mean())


def _max(values: NDArray[np.float64] | None) -> float | None:
    return None if values is None else float(values.max())


def _growth(values: NDArray[np.float64] | None) -> float | None:
    return None if values is None or len(values) < 2 else float(values[-1] - values[0])


def server_rows(result: Result) -> list[tuple[str, str]]:
    """The server's own figures, as rows of facts."""
    figures = server_figures(result)
    if figures is None:
        return [("Server", "reports no metrics (server.csv is absent)")]
    parts = [
        ("running {} on average", figures.running_mean),
        ("at most {}", figures.running_max),
        ("peak queue {}", figures.waiting_max),
        ("KV pool {} % in use on average", figures.kv_use_mean_pct),
        ("at most {} %", figures.kv_use_max_pct),
        ("{} preemptions", figures.preemptions),
        ("{} % of prompt tokens found in its cache", figures.hit_pct),
    ]
    words = [text.format(number(value)) for text, value in parts if value is not None]
    return [("Server", f"its own metrics, once a second: {', '.join(words)}")]


def client_sentences(result: Result) -> list[str]:
    """How the requests were sent, and what a client could not see; empty for our engine."""
    view, server = result.record.client, result.plan.server
    if view is None or server is None:
        return []
    sentences = [view.lag_sentence, *view.remarks]
    share = tokens_per_chunk(result.record)
    replies = [item.reply for item in result.record.requests if item.reply is not None]
    if share is not None and not all(reply.has_token_times for reply in replies):
        sentences.append(
            f"Chunks of replies brought {share:.4g} tokens on average, not one each: gaps between tokens "
            "are not known, so there is no inter-token latency."
        )
    num_whole = sum(len(reply.times) == 1 < reply.num_tokens for reply in replies)
    if num_whole:
        sentences.append(
            f"{num_whole:,} of {len(replies):,} replies came in one chunk: they have no time per output "
            "token."
        )
    if result.server is not None and not result.server.is_cache_fresh:
        sentences.append(
            "The server may have had prompts in its cache from earlier runs: its API can neither separate "
            "runs nor empty the cache."
        )
    if not PROTOCOLS[server.api].forces_lengths:
        sentences.append(f"The API {server.api} cannot be told how long a reply is: lengths vary.")
    return sentences
