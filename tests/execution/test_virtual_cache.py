"""Addresses without memory, and pages that get and lose it, as the operating system says."""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import torch

from models.folders import make_llama_folder
from pagedbench.execution import virtual_cache
from pagedbench.execution.kv_cache import KVCacheError
from pagedbench.execution.model_runner import ModelExecutor
from pagedbench.execution.page_committer import PageCommitter
from pagedbench.execution.virtual_cache import VirtualCache
from pagedbench.memory.pages import KeptPages, PageChanges, PageCounts, PageRun, PageSpec
from pagedbench.memory.virtual.extents import VirtualExtents
from pagedbench.memory.virtual.page_pool import PagePool
from pagedbench.models.loader import load_model
from pagedbench.ops.select import select_ops
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.simulation.shapes import ModelShape
from pagedbench.workload.arrivals import FixedArrivals
from serving import GREEDY, engine_of, loaded_model, outputs_of, reference_greedy, requests_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the system's own pages, by madvise")

SHAPE = ModelShape("tiny", "llama", 3, 64, 4, 2, 32, 128, 100, 4096)
ROW, PAGE = 2 * 32 * 4, 4096
"""A row has 256 bytes in float32, so that a page of 4 KiB holds 16 tokens."""


def cache_of(num_pages: int = 64, page: int = PAGE, max_model_len: int = 128) -> VirtualCache:
    extent_pages = -(-max_model_len * ROW // page)
    return VirtualCache(
        SHAPE, PagePool(PageSpec(ROW, page, max_extents=8), num_pages, extent_pages), torch.float32
    )


def resident_bytes(cache: VirtualCache) -> int:
    """Bytes of the pool that have memory now, as the operating system says."""
    libc, total = ctypes.CDLL(None), 0
    for tensor in cache.tensors:
        vector = (ctypes.c_ubyte * (tensor.nbytes // mmap.PAGESIZE))()
        libc.mincore(ctypes.c_void_p(tensor.data_ptr()), ctypes.c_size_t(tensor.nbytes), vector)
        total += mmap.PAGESIZE * sum(byte & 1 for byte in bytes(vector))
    return total


def test_nothing_has_memory_until_it_is_committed() -> None:
    cache = cache_of()
    assert cache.num_slots == 8 * 128
    assert [tuple(tensor.shape) for tensor in cache.tensors] == [(1024, 2, 32)] * 6
    assert resident_bytes(cache) == 0
    cache.commit(PageRun(8, 3))  # the second extent's first pages, in six tensors
    assert resident_bytes(cache) == 6 * 3 * PAGE
    cache.keys[1][128:176] = 1.0
    assert resident_bytes(cache) == 6 * 3 * PAGE
    cache.give_back(PageRun(9, 2))
    assert resident_bytes(cache) == 6 * PAGE
    assert cache.keys[1][128:176, 0, 0].tolist() == [1.0] * 16 + [0.0] * 32
    cache.clear()
    assert resident_bytes(cache) == 0


def test_a_second_commit_changes_no_content() -> None:
    cache = cache_of()
    cache.commit(PageRun(0, 1))
    cache.values[2][:16] = 3.0
    cache.commit(PageRun(0, 2))
    assert cache.values[2][:16].eq(3.0).all()


def test_huge_pages_begin_where_the_machine_has_them() -> None:
    cache = cache_of(page=2**21, max_model_len=10_000)
    assert [tensor.data_ptr() % 2**21 for tensor in cache.tensors] == [0] * 6
    cache.commit(PageRun(2, 1))
    assert resident_bytes(cache) == 6 * 2**21


def test_an_older_system_commits_by_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_cache, "MADV_POPULATE_WRITE", 99)
    cache = cache_of()
    cache.commit(PageRun(8, 3))
    assert resident_bytes(cache) == 6 * 3 * PAGE


def test_what_cannot_be_reserved_is_an_error_that_says_what_to_change() -> None:
    with pytest.raises(KVCacheError, match=r"[\d,]+ TiB of addresses.*lower --max-num-seqs"):
        cache_of(max_model_len=2**40)
    with pytest.raises(KVCacheError, match="--page-size must be at least this machine's"):
        cache_of(page=1024)


def test_changes_are_carried_out_in_order_and_ahead_of_need_in_a_thread() -> None:
    cache, counts, done = cache_of(), PageCounts(), list[tuple[str, PageRun, bool]]()
    for name in ("commit", "give_back"):

        def noted(run: PageRun, name: str = name) -> None:
            done.append((name, run, threading.current_thread() is threading.main_thread()))
            getattr(VirtualCache, name)(cache, run)

        setattr(cache, name, noted)
    cache.keys[0][:16] = 1.0  # what another engine has left
    committer = PageCommitter(cache, counts)
    first, second, third = PageRun(0, 1), PageRun(1, 2), PageRun(8, 1)
    committer.change(PageChanges([], [first], [second]))
    committer.change(PageChanges([second], [third], []))
    assert done == [
        ("commit", first, True),
        ("commit", second, False),
        ("give_back", second, True),
        ("commit", third, True),
    ]
    assert resident_bytes(cache) == 6 * 2 * PAGE
    assert cache.keys[0][:16].eq(0.0).all()
    assert min(counts.commit_time, counts.ahead_time) > 0


def test_an_error_in_the_thread_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_of()
    committer = PageCommitter(cache, PageCounts())
    monkeypatch.setattr(cache, "_first", 2**46 + 2**40)  # nothing is mapped there
    committer.change(PageChanges([], [], [PageRun(0, 1)]))
    with pytest.raises(KVCacheError, match="cannot be committed: "):
        committer.change(PageChanges())


@pytest.mark.parametrize("folder", ["llama"], indirect=True)
@pytest.mark.parametrize("ahead", [0, 32])
@pytest.mark.parametrize("kept", KeptPages)
def test_memory_follows_the_tokens_and_the_tokens_are_the_same(
    folder: Path, ahead: int, kept: KeptPages
) -> None:
    """What is resident at the end of an iteration is what the manager says, never more than the pool."""
    loaded = loaded_model(folder)
    row = loaded.shape.num_kv_heads * loaded.shape.head_dim * 4
    memory = VirtualExtents(160, 8, 64, pages=PageSpec(row, PAGE, ahead, kept))
    cache = VirtualCache(loaded.shape, memory.pages, torch.float32)
    executor = ModelExecutor.in_process(loaded.model, cache, memory, select_ops("cpu"))
    engine = engine_of("vattention", memory, executor, "swap")
    source, num_tensors, most = FixedArrivals(requests_of(folder, GREEDY)), len(cache.tensors), 0
    engine.start()
    while source.has_more or engine.scheduler.has_unfinished:
        assert engine.step(source)
        executor._runner._pages.change(PageChanges())  # waits for the thread
        resident = resident_bytes(cache)
        assert resident == PAGE * num_tensors * sum(memory.pages._known)
        most = max(most, resident)
    assert most <= num_tensors * 160 * row
    record = engine.finish(source)
    assert outputs_of(record) == [[tuple(reply)] for reply in reference_greedy(folder)]
    assert record.page_counts is not None
    assert record.steps["preemptions_swap"].sum() >= 1


def test_memory_is_within_15_percent_of_what_tokens_need(tmp_path: Path) -> None:
    """Pages of 4 KiB, 16 tokens each: eight sequences of 120 to 230 tokens, in every iteration."""
    loaded = load_model(str(make_llama_folder(tmp_path / "m", head_dim=32)), dtype=torch.float32)
    memory = VirtualExtents(2048, 16, 256, pages=PageSpec(ROW, PAGE, kept=KeptPages.NONE))
    cache = VirtualCache(loaded.shape, memory.pages, torch.float32)
    executor = ModelExecutor.in_process(loaded.model, cache, memory, select_ops("cpu"))
    engine = engine_of("vattention", memory, executor, "recompute")
    requests = [Request(i, 0.0, Prompt(120 + 11 * i, seed=i), SamplingParams(33)) for i in range(8)]
    source, num_checked = FixedArrivals(requests), 0
    engine.start()
    while source.has_more or engine.scheduler.has_unfinished:
        engine.step(source)
        needed = engine.recorder.last_usage.token_states * ROW * len(cache.tensors)
        assert needed <= resident_bytes(cache) <= 1.15 * needed
        num_checked += 1
    assert num_checked == 33
