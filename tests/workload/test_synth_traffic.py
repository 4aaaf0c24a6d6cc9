"""Synthesized traffic: the committed files are what is sampled, and they have the published statistics."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest

from pagedbench.workload.bundled import TRAFFIC_FILES
from pagedbench.workload.dataset import load_dataset
from pagedbench.workload.rows import Row, TraceError
from pagedbench.workload.synth_traffic import synthesize_traffic
from pagedbench.workload.text_stream import text_pieces

TRACES = Path(__file__).resolve().parents[2] / "traces"
ROWS = {"bursty": 2000, "agentic": 1600, "prefix-tree": 2000}


@pytest.mark.parametrize("name", ROWS)
def test_the_committed_files_are_what_is_sampled(name):
    dataset = load_dataset(name)
    assert dataset.synthetic
    assert dataset.rows == tuple(synthesize_traffic(name, ROWS[name], seed=0))


@pytest.mark.parametrize("file", [*TRAFFIC_FILES.values(), "traffic.json"])
def test_the_read_me_names_their_texts(file):
    with (TRACES / file).open("rb") as opened:
        text = "".join(text_pieces(opened, file))
    assert hashlib.sha256(text.encode()).hexdigest() in (TRACES / "README.md").read_text()


@pytest.mark.parametrize("seed", range(3))
def test_bursts_have_the_published_rate_and_variation(seed):
    rows = synthesize_traffic("bursty", 9000, seed)
    gaps = np.diff([row.arrival_time for row in rows], prepend=0.0)
    assert 1 / gaps.mean() == pytest.approx(2.57, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(13.2, rel=0.12)
    assert np.mean([row.prompt_len for row in rows]) == pytest.approx(2048, rel=0.01)
    assert np.mean([row.output_len for row in rows]) == pytest.approx(27.9, rel=0.03)


def share_seen(rows: list[Row]) -> float:
    """The share of all blocks that an earlier prompt had."""
    seen: set[int] = set()
    hits = total = 0
    for row in rows:
        assert row.blocks is not None
        hits += sum(block in seen for block in row.blocks.ids)
        total += len(row.blocks.ids)
        seen.update(row.blocks.ids)
    return hits / total


@pytest.mark.parametrize("seed", range(3))
def test_beginnings_are_shared_about_as_much_as_published(seed):
    assert share_seen(synthesize_traffic("prefix-tree", 4000, seed)) == pytest.approx(0.366, abs=0.06)
    assert share_seen(synthesize_traffic("agentic", 1600, seed)) == pytest.approx(0.946, abs=0.025)


@pytest.mark.parametrize("name", ["agentic", "prefix-tree"])
def test_an_id_stands_for_its_whole_beginning(name):
    before: dict[int, int | None] = {}
    for row in synthesize_traffic(name, 800, seed=4):
        assert row.blocks is not None
        assert len(row.blocks.ids) == -(-row.prompt_len // 512)
        for previous, block in itertools.pairwise((None, *row.blocks.ids)):
            assert before.setdefault(block, previous) == previous


def test_turns_wait_for_earlier_turns_of_their_session():
    rows = synthesize_traffic("agentic", 1600, seed=0)
    seen: dict[str, set[int]] = {}
    num_joining = 0
    for row in rows:
        assert row.turn is not None
        assert row.session is not None
        turns = seen.setdefault(row.session, set())
        assert set(row.turn.waits_for) <= turns
        assert bool(turns) == bool(row.turn.waits_for)
        num_joining += len(row.turn.waits_for) > 1
        turns.add(row.turn.index)
    assert num_joining > 0


@pytest.mark.parametrize("number", [0, -1, 10**9])
def test_impossible_numbers_of_rows(number):
    with pytest.raises(TraceError, match="the number of rows is"):
        synthesize_traffic("bursty", number, seed=0)
