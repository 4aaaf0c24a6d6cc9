"""What only the Triton kernels promise: split contexts, one launch for a pool, nothing read back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from ops.exact import assert_attends
from ops.on_device import DEVICE, OnDevice
from ops.pool import Pool, extent_pool, paged_pool
from ops.test_decode import attend_pool, contexts
from pagedbench.ops.addresses import BlockTables
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.interface import Ops

pytest.importorskip("triton")

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
HEADS = sorted({(item.head_dim, item.num_heads // item.num_kv_heads) for item in BUILT_IN_SHAPES.values()})
OTHER_HEADS = [(80, 1), (96, 3)]
"""OPT-2.7B, and sizes of which none is a power of two."""

TYPED_HEADS = [(*sizes, DTYPES[i % 3]) for i, sizes in enumerate(HEADS + OTHER_HEADS)]
"""Interpreted kernels are slow: each of the sizes in one type."""

SHARED_MEMORY = 99 * 1024
"""Bytes that a program may have on the smallest of the GPUs since Ampere."""


@pytest.mark.parametrize(("head_dim", "group_size", "dtype"), TYPED_HEADS)
def test_heads_of_the_models(triton: Ops, head_dim: int, group_size: int, dtype: torch.dtype) -> None:
    scale, lengths, num_rows = head_dim**-0.5, [17, 1, 70], [17, 1, 6]
    starts = torch.tensor([0, *num_rows]).cumsum(0).int()
    one_a_sequence = torch.randn(3, 2 * group_size, head_dim).to(dtype)
    prompts = torch.randn(sum(num_rows), 2 * group_size, head_dim).to(dtype)

    pool = paged_pool(lengths, 16, 2, head_dim, dtype)
    assert_attends(attend_pool(triton, one_a_sequence, pool, scale), contexts(one_a_sequence, pool), scale)
    stored = list(zip(prompts.split(num_rows), pool.keys, pool.values, strict=True))
    caches = (pool.key_cache, pool.value_cache)
    out = triton.attend_prefill(prompts, *caches, pool.addresses, starts, pool.context_lens, scale)
    assert_attends(out, stored, scale)

    pool = extent_pool(lengths, 2, head_dim, dtype)
    assert_attends(attend_pool(triton, one_a_sequence, pool, scale), contexts(one_a_sequence, pool), scale)
    stored = list(zip(prompts.split(num_rows), pool.keys, pool.values, strict=True))
    caches = (pool.key_cache, pool.value_cache)
    out = triton.attend_prefill(prompts, *caches, pool.addresses, starts, pool.context_lens, scale)
    assert_attends(out, stored, scale)


def split_decode(
    query: Tensor,
    pool: Pool,
    scale: float,
    num_splits: int,
    softcap: float | None = None,
    sink_logits: Tensor | None = None,
) -> Tensor:
    from pagedbench.kernels.triton.decode import decode

    where = (pool.key_cache, pool.value_cache, pool.addresses, pool.context_lens)
    args = (query, *where, scale, None, 0, softcap, sink_logits)
    on_gpu = torch.cuda.is_available()
    return (OnDevice(decode, "cuda") if on_gpu else decode)(*args, num_splits)


@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize(
    ("num_splits", "group_size", "dtype"),
    [
        (2, 1, torch.float32),
        (4, 4, torch.float32),
        (4, 1, torch.bfloat16),
        (2, 4, torch.float16),
        (8, 1, torch.float16),
    ],
)
def test_pieces_of_a_context_join(num_splits: int, group_size: int, dtype: torch.dtype) -> None:
    """A piece has at least 4 tiles of 64: lengths at and around its edges, empty pieces, no context."""
    lengths = [0, 1, 255, 256, 257, 513, 900]
    query = torch.randn(len(lengths), group_size, 64).to(dtype)
    for pool in (paged_pool(lengths, 16, 1, 64, dtype), extent_pool(lengths, 1, 64, dtype)):
        out = split_decode(query, pool, 0.125, num_splits)
        assert torch.equal(out[0], torch.zeros_like(out[0]))
        assert_attends(out[1:], contexts(query, pool)[1:], 0.125)


@pytest.mark.usefixtures("triton")
def test_pieces_with_large_scores_join() -> None:
    """Each piece has its own maximum; they differ by hundreds."""
    pool = paged_pool([700, 300], 16, 1, 64, torch.float32)
    query = torch.randn(2, 1, 64) * 40
    assert_attends(split_decode(query, pool, 1.0, 4), contexts(query, pool), 1.0)


@pytest.mark.usefixtures("triton")
def test_nan_of_one_piece_reaches_the_output() -> None:
    pool = extent_pool([700, 700], 1, 64, torch.float32)
    pool.value_cache[pool.extent_starts[0] + 300] = float("nan")
    out = split_decode(torch.randn(2, 1, 64), pool, 0.125, 4)
    assert out[0].isnan().all()
    assert out[1].isfinite().all()


def test_the_width_of_the_tables_decides_the_split(triton: Ops) -> None:
    """Tables with room for a long context change the number of programs, and not what comes out."""
    pool = paged_pool([300, 40], 16, 1, 64, torch.float32)
    query = torch.randn(2, 1, 64)
    wide = torch.full((2, 256), -1, dtype=torch.int32)
    wide[:, : pool.block_tables.shape[1]] = pool.block_tables
    caches, tables = (pool.key_cache, pool.value_cache), BlockTables(wide, 16)
    out = triton.attend_decode(query, *caches, tables, pool.context_lens, 0.125)
    assert_attends(out, contexts(query, pool), 0.125)


@pytest.mark.parametrize(
    ("num_programs", "max_tiles", "expected"),
    [
        *(
            (programs, 1000, splits)
            for programs, splits in [(0, 32), (1, 32), (33, 32), (34, 16), (264, 4)]
        ),
        *((programs, 1000, splits) for programs, splits in [(265, 2), (528, 2), (529, 1), (5000, 1)]),
        *((1, tiles, splits) for tiles, splits in [(0, 1), (3, 1), (7, 1), (8, 2), (31, 4), (32, 8)]),
    ],
)
def test_number_of_splits(num_programs: int, max_tiles: int, expected: int) -> None:
    """Enough programs for 132 SMs, pieces of 4 tiles at least, and a power of two."""
    from pagedbench.kernels.triton.decode import choose_num_splits

    assert choose_num_splits(num_programs, max_tiles, 132) == expected


@pytest.mark.usefixtures("triton")
def test_nothing_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph cannot hold an operation that waits for a value from the device."""
    from pagedbench.ops import triton as ops

    with torch.device(DEVICE):
        pool = paged_pool([300, 40], 16, 2, 16, torch.float32)
        extents = extent_pool([30, 40], 2, 16, torch.float32)
        heads, hidden = torch.randn(2, 8, 16), torch.randn(2, 32)
        slots, starts = torch.tensor([3, -1]), torch.tensor([0, 1, 2], dtype=torch.int32)
        gated, angles = ops.linear(torch.randn(64, 32), None, "silu_gated"), torch.randn(2, 8)
        late = BlockTables(pool.block_tables, 16, torch.tensor([32, 16], dtype=torch.int32))
    query, key, value = heads.split((4, 2, 2), dim=1)
    caches = pool.key_cache, pool.value_cache

    def refuse(*_: object) -> None:
        raise AssertionError("a value was read back")

    for name in ("item", "tolist", "cpu", "numpy", "__int__", "__bool__", "__float__", "__index__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    ops.rms_norm(hidden, hidden, hidden[0], 1e-5)
    ops.layer_norm(hidden, None, None, None, 1e-5)
    gated(hidden)
    ops.write_kv(key, value, *caches, slots)
    ops.rotate_and_write_kv(query, key, value, *caches, slots, angles, angles)
    attend_pool(ops, query, pool, 0.25)
    attend_pool(ops, query, extents, 0.25)
    for where in ((pool.addresses, starts, pool.context_lens), (late, starts, pool.context_lens)):
        ops.attend_prefill(query, *caches, *where, 0.25, 5, 2)
    ops.attend_decode(query, *caches, late, pool.context_lens, 0.25, 5, 2)


@pytest.mark.usefixtures("triton")
@pytest.mark.parametrize(
    ("is_one_pool", "target", "num_launches"), [(True, 5, 1), (False, 5, 3), (True, 2, 2)]
)
def test_a_pool_is_copied_in_one_launch(
    monkeypatch: pytest.MonkeyPatch, is_one_pool: bool, target: int, num_launches: int
) -> None:
    """Caches that lie evenly apart share a launch, others take one each; overlap takes a second one."""
    from pagedbench.ops import triton as ops

    launches = []
    copy_slots = ops.copy_slots
    monkeypatch.setattr(ops, "copy_slots", lambda *args: (launches.append(args), copy_slots(*args)))
    caches = list(torch.randn(3, 20, 2, 24, device=DEVICE))
    if not is_one_pool:
        caches = [cache.clone() for cache in caches]
    expected = [cache.clone() for cache in caches]
    for cache in expected:
        cache[target : target + 3] = cache[1:4].clone()  # all are read before any is written
    ops.copy_runs(caches, caches, torch.tensor([[1, target, 3]]))
    assert len(launches) == num_launches
    assert all(torch.equal(cache, wanted) for cache, wanted in zip(caches, expected, strict=True))


def test_a_step_of_swaps_is_one_launch(triton: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many blocks move, and wherever they lie."""
    from pagedbench.ops import triton as ops

    launches = []
    copy_slots = ops.copy_slots
    monkeypatch.setattr(ops, "copy_slots", lambda *args: (launches.append(args), copy_slots(*args)))
    device = torch.randn(4, 30, 2, 16, device=DEVICE)
    host = torch.zeros(4, 20, 2, 16, pin_memory=device.is_cuda)
    sources, targets = [29, 3, 17, 5, 8], [4, 19, 0, 11, 7]
    runs = torch.tensor([(source, target, 1) for source, target in zip(sources, targets, strict=True)])
    ops.copy_runs(list(device), list(host), runs)
    assert len(launches) == 1
    expected = torch.zeros(host.shape)
    expected[:, targets] = device.cpu()[:, sources]  # waits for the copies
    assert torch.equal(host, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_swaps_between_device_and_host(triton: Ops) -> None:
    from pagedbench.ops import triton as ops

    device, host = torch.randn(4, 30, 2, 16, device="cuda"), torch.zeros(4, 20, 2, 16).pin_memory()
    before = device.clone()
    ops.copy_runs(list(device), list(host), torch.tensor([[3, 0, 5], [20, 5, 2]]))
    ops.copy_runs(list(host), list(device), torch.tensor([[0, 10, 5]]))
    torch.cuda.synchronize()
    assert torch.equal(host[:, :7], before[:, [3, 4, 5, 6, 7, 20, 21]].cpu())
    assert torch.equal(device[:, 10:15], before[:, 3:8])


def test_kernels_compile_for_gpus(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The interpreter accepts what the compiler may refuse, and knows no limits of a GPU.

    Triton finds what it has compiled before by a hash of all that matters, so kernels that did not change
    since the last run take no time.
    """
    if sys.platform != "linux":
        pytest.skip("Triton compiles on Linux")
    tests, cache = Path(__file__).parents[1], getattr(request.config, "cache", None)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        "TRITON_CACHE_DIR": str(tmp_path if cache is None else cache.mkdir("triton")),
    }
    command = [sys.executable, "-W", "error", str(tests / "ops" / "triton_compiler.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kernels = [line.split() for line in done.stdout.splitlines()]
    assert len({name for name, _ in kernels}) == 9
    assert max(int(shared) for _, shared in kernels) <= SHARED_MEMORY
