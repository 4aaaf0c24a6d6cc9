"""Swaps run beside other work, and are joined before what they moved is used."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from execution.pools import back, moves_of, out
from execution.test_cuda_graphs import KINDS, TIGHT, Frozen, requests_of, serve
from pagedbench.execution.kv_cache import KVCache, SwapStream
from pagedbench.memory.moves import Copy
from pagedbench.ops.select import select_ops
from pagedbench.simulation.shapes import ModelShape
from serving import outputs_of

SHAPE = ModelShape("tiny", "llama", 3, 64, 8, 2, 8, 64, 100, 64)
OPS = select_ops("cpu")


class Latest:
    """A device that puts every move off until it has to be over."""

    def __init__(self):
        self.moves = []
        self.num_late = 0

    def run(self, move):
        self.moves.append(move)

    def join(self):
        self.num_late += len(self.moves)
        while self.moves:
            self.moves.pop(0)()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("folder", ["llama"], indirect=True)
@pytest.mark.parametrize("on_graphs", [False, True])
def test_moves_may_be_as_late_as_the_join(folder, monkeypatch, on_graphs):
    requests, late = requests_of(18, KINDS), Latest()
    expected, _ = serve(folder, requests, num_slots=TIGHT, preemption="recompute")
    monkeypatch.setattr("pagedbench.execution.kv_cache.SwapStream", lambda device: late)
    replay = Frozen() if on_graphs else None
    record, _ = serve(folder, requests, num_slots=TIGHT, preemption="swap", replay=replay)
    assert outputs_of(record) == outputs_of(expected)
    assert late.num_late > 6
    assert not late.moves


def test_copies_wait_for_swaps(monkeypatch):
    late = Latest()
    monkeypatch.setattr("pagedbench.execution.kv_cache.SwapStream", lambda device: late)
    cache = KVCache(SHAPE, 8, torch.float32, "cpu")
    cache.reserve_host(8)
    for tensor in cache.tensors:
        tensor.copy_(torch.arange(8.0)[:, None, None].expand_as(tensor))
    cache.move(moves_of(out(2, 5, 1)), OPS)
    cache.move(moves_of(back(5, 6, 1)), OPS)
    assert len(late.moves) == 2
    cache.move(moves_of(Copy(6, 7, 1), Copy(0, 2, 1)), OPS)
    for tensor in cache.tensors:
        assert tensor[:, 0, 0].tolist() == [0.0, 1.0, 0.0, 3.0, 4.0, 5.0, 2.0, 2.0]


def test_a_cpu_moves_at_once():
    stream, moved = SwapStream(torch.device("cpu")), []
    stream.run(lambda: moved.append(1))
    assert moved == [1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_gpu_keeps_the_order():
    """A number goes through the host from row to row, and grows on the way; the row it left is cleared."""
    swaps = SwapStream(torch.device("cuda"))
    rows = torch.zeros(40, 2**20, device="cuda")
    host = torch.zeros(40, 2**20, pin_memory=True)
    rows[0] = 1.0
    for before, after in pairwise(range(40)):
        swaps.run(lambda row=before: host[row].copy_(rows[row], non_blocking=True))
        swaps.run(lambda row=before: rows[row + 1].copy_(host[row], non_blocking=True))
        swaps.join()
        rows[before].zero_()
        rows[after] += 1.0
    assert rows[:, 0].tolist() == [0.0] * 39 + [40.0]
    assert host[:, -1].tolist() == [float(i + 1) for i in range(39)] + [0.0]
