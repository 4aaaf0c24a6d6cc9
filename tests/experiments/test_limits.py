"""What limits a rate, in runs where it is known."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from experiments.searches import make_search
from pagedbench.backend import SimulatedBackend
from pagedbench.experiments.capacity import run_probe

if TYPE_CHECKING:
    from pagedbench.experiments.limits import Limit


def limit_of(system: str, rate: float, **options: object) -> Limit:
    return run_probe(make_search(system, **options), SimulatedBackend(), rate, threading.Event()).limit


@pytest.mark.parametrize(
    ("system", "kind", "words"),
    [
        ("paged", "pool", "tokens in use fill 9"),
        ("orca-oracle", "fragmentation", "% external, "),
        ("orca-max", "fragmentation", "% internal, "),
        ("fastertransformer", "batch", "a closed batch"),
    ],
)
def test_overload_shows_what_each_system_lacks(system: str, kind: str, words: str) -> None:
    limit = limit_of(system, 6.0)
    assert limit.kind == kind
    assert words in limit.detail


def test_limits_of_the_batch() -> None:
    limit = limit_of("paged", 4.0, max_num_seqs=4)
    assert (limit.kind, "--max-num-seqs" in limit.detail) == ("batch", True)
    limit = limit_of("paged", 30.0, max_num_batched_tokens=128, kv_slots=1_000_000, max_num_seqs=100_000)
    assert (limit.kind, "--max-num-batched-tokens" in limit.detail) == ("batch", True)


def test_without_a_queue_it_is_the_computation() -> None:
    limit = limit_of("paged", 4.0, kv_slots=1_000_000, max_num_seqs=100_000)
    assert limit.kind == "compute"
