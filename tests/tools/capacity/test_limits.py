"""What limits a rate: in runs where it is known, and by experiment, doubling every resource in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.capacity.searches import bounded, found_by, make_search, probe_at, tail

if TYPE_CHECKING:
    from pagedbench.runs.criterion import Criterion
    from pagedbench.runs.limits import Limit


def limit_of(
    system: str, rate: float, criteria: tuple[Criterion, ...] = bounded(0.3), **options: object
) -> Limit:
    probe = probe_at(make_search(system, criteria, **options), rate)
    limit = probe.results[criteria[0]].limit
    assert limit is not None, "the bound is met"
    return limit


@pytest.mark.parametrize("criteria", [bounded(0.1), tail("ttft:1s", 0.95)])
@pytest.mark.parametrize(
    ("system", "kind", "words"),
    [
        ("paged", "pool", "tokens in use fill 9"),
        ("orca-oracle", "fragmentation", "% external"),
        ("orca-max", "fragmentation", "% internal, "),
        ("fastertransformer", "batch", "the closed batch"),
    ],
)
def test_overload_shows_what_each_system_lacks(
    criteria: tuple[Criterion, ...], system: str, kind: str, words: str
) -> None:
    limit = limit_of(system, 9.0, criteria)
    assert limit.kind == kind
    assert words in limit.detail


COARSE = {"tolerance": 0.2}
LARGE = {"kv_slots": 60_000, "max_num_seqs": 1000, "max_num_batched_tokens": 2560, "device": "sim:h200"}


@pytest.mark.parametrize(
    ("criteria", "scarce", "kind", "words", "doubled"),
    [
        (tail("ttft:2s", 0.99), {"kv_slots": 15_696}, "pool", "for memory", "kv_slots"),
        (tail("ttft:2s", 0.95), {"max_num_seqs": 8}, "batch", "for --max-num-seqs", "max_num_seqs"),
        (bounded(0.1), {"max_num_seqs": 8}, "batch", "for --max-num-seqs", "max_num_seqs"),
        (tail("ttft:1s", 0.95), {"max_num_batched_tokens": 64, "trace": "alpaca", "duration": 20.0},
         "batch", "for --max-num-batched-tokens", "max_num_batched_tokens"),
        (tail("tpot:30ms", 0.9), {}, "compute", "step time is the bottleneck", None),
        (bounded(0.025), {}, "compute", "step time is the bottleneck", None),
        (tail("itl:1s", 0.9), {"kv_slots": 4096}, "pool", "for memory", "kv_slots"),
    ],
)  # fmt: skip
def test_only_more_of_what_limits_it_lets_a_missed_rate_meet_the_bound(
    criteria: tuple[Criterion, ...],
    scarce: dict[str, object],
    kind: str,
    words: str,
    doubled: str | None,
) -> None:
    options = {**LARGE, **scarce}
    (capacity,) = found_by(make_search(criteria=criteria, search=COARSE, **options)).capacities
    assert capacity.missed is not None
    assert capacity.limit is not None
    assert (capacity.limit.kind, words in capacity.limit.detail) == (kind, True)
    for name in ("kv_slots", "max_num_seqs", "max_num_batched_tokens"):
        value = options[name]
        assert isinstance(value, int)
        more = make_search(criteria=criteria, **{**options, name: 2 * value})
        is_met = probe_at(more, capacity.missed.rate).results[criteria[0]].is_met
        assert is_met == (name == doubled), name


def test_requests_too_large_for_the_pool_are_what_it_lacks() -> None:
    limit = limit_of("paged", 0.5, tail("ttft:100s", 0.99), kv_slots=512)
    assert limit.kind == "pool"
    assert limit.detail.endswith("requests can never fit the KV pool")
