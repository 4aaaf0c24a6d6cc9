"""Windows, sinks and tables that begin late, by every backend: each query against what it sees."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from ops.cases import on_backends
from ops.exact import assert_attends, assert_within, attention_of
from ops.pool import Pool, extent_pool, paged_pool
from pagedbench.ops.addresses import BlockTables

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.ops.interface import Ops

DTYPES = [torch.float32, torch.bfloat16]
PLACES = [(0, 1, torch.float32), (1, 1, torch.float32), (8, 1, torch.bfloat16), (16, 2, torch.float32)]
"""Block sizes, of which 0 means extents; KV heads, each of two query heads; and dtypes."""

GARBAGE = 2**31 - 1
"""In table entries that nobody may read."""

SCALE = 0.25
LENGTHS = [1, 2, 5, 16, 17, 40, 66, 130]
WINDOWS = [(1, 0), (1, 3), (7, 0), (7, 5), (33, 16), (64, 1), (1000, 0), (9, 1000)]
"""Window and sinks: the newest token alone, unaligned, more than a tile, longer than any context."""

EVERYWHERE = on_backends(
    (
        (*place, *window)
        for row, place in enumerate(PLACES)
        for column, window in enumerate(WINDOWS)
        if (row + column + column // 2) % 2 == 0
    ),
    9,
)
"""Every window at two places, and at every place four windows."""


def is_seen(asking: int, asked: Tensor, window: int | None, sinks: int) -> Tensor:
    seen = asked <= asking
    return seen if window is None else seen & ((asked > asking - window) | (asked < sinks))


def expected(
    pool: Pool, query: Tensor, num_rows: list[int], window: int | None, sinks: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Every query row as a sequence of its own, over what it sees."""
    contexts = []
    for rows, key, value in zip(query.split(num_rows), pool.keys, pool.values, strict=True):
        for i, row in enumerate(rows):
            seen = is_seen(len(key) - len(rows) + i, torch.arange(len(key)), window, sinks)
            contexts.append((row[None], key[seen], value[seen]))
    return contexts


def spoil_unseen(pool: Pool, num_rows: list[int], window: int, sinks: int) -> Pool:
    """NaN in the slots that no query sees, and garbage in the table entries of blocks without others."""
    tables, starts, size = pool.block_tables.clone(), pool.extent_starts, pool.block_size
    caches = pool.key_cache.clone(), pool.value_cache.clone()
    for i, (count, length) in enumerate(zip(num_rows, pool.context_lens.tolist(), strict=True)):
        positions = torch.arange(length)
        seen = torch.zeros(length, dtype=torch.bool)
        for asking in range(length - count, length):
            seen |= is_seen(asking, positions, window, sinks)
        slots = tables[i, positions // size] * size + positions % size if size else starts[i] + positions
        for cache in caches:
            cache[slots[~seen]] = float("nan")
        for block in range(-(-length // size) if size else 0):
            if not seen[block * size : (block + 1) * size].any():
                tables[i, block] = GARBAGE
    return replace(pool, key_cache=caches[0], value_cache=caches[1], block_tables=tables)


def late(pool: Pool, num_rows: list[int], window: int, sinks: int, *, delay: int = 0) -> BlockTables:
    """Tables without what lies between the sinks and the first window, or some blocks less far."""
    size, num_sink_blocks = pool.block_size, -(-sinks // pool.block_size)
    tables, firsts = torch.full_like(pool.block_tables, GARBAGE), []
    for i, (count, length) in enumerate(zip(num_rows, pool.context_lens.tolist(), strict=True)):
        first_block = max((length - count - window + 1) // size - delay, 0)
        row = pool.block_tables[i]
        kept = torch.cat((row[:num_sink_blocks], row[max(first_block, num_sink_blocks) :]))
        tables[i, : len(kept)] = kept
        firsts.append(first_block * size)
    return BlockTables(tables, size, torch.tensor(firsts, dtype=torch.int32))


def pool_of(lengths: list[int], block_size: int, num_kv_heads: int, dtype: torch.dtype) -> Pool:
    """In blocks, or in extents."""
    if block_size:
        return paged_pool(lengths, block_size, num_kv_heads, 16, dtype)
    return extent_pool(lengths, num_kv_heads, 16, dtype)


def decode_all(ops: Ops, pool: Pool, query: Tensor, window: int, sinks: int) -> list[Tensor]:
    """The same decode by tables from the beginning, and by those that begin late."""
    ones = [1] * len(query)
    spoilt = spoil_unseen(pool, ones, window, sinks)
    tables = [spoilt.addresses]
    if pool.block_size:
        tables += [late(spoilt, ones, window, sinks, delay=delay) for delay in (0, 2)]
    return [
        ops.attend_decode(
            query, spoilt.key_cache, spoilt.value_cache, where, pool.context_lens, SCALE, window, sinks
        )
        for where in tables
    ]


@pytest.mark.parametrize(
    ("ops", "block_size", "num_kv_heads", "dtype", "window", "sinks"), EVERYWHERE, indirect=["ops"]
)
def test_decode(
    ops: Ops, block_size: int, num_kv_heads: int, window: int, sinks: int, dtype: torch.dtype
) -> None:
    pool = pool_of(LENGTHS, block_size, num_kv_heads, dtype)
    query = torch.randn(len(LENGTHS), 2 * num_kv_heads, 16).to(dtype)
    attention = attention_of(expected(pool, query, [1] * len(LENGTHS), window, sinks), SCALE)
    outs = decode_all(ops, pool, query, window, sinks)
    for out in outs:
        assert_within(out, attention)
        assert ops.name == "reference" or torch.equal(out, outs[0]), "it is the same sum in the same order"


@pytest.mark.parametrize("window", [600, 1030])
def test_decode_in_parts(ops: Ops, window: int) -> None:
    """More than the 512 tokens of a work item, with sinks in the first and a context without a gap."""
    lengths = [1500, 1036, 1041, 520]
    pool, query = paged_pool(lengths, 16, 1, 8, torch.float32), torch.randn(4, 2, 8)
    attention = attention_of(expected(pool, query, [1] * 4, window, 10), SCALE)
    for out in decode_all(ops, pool, query, window, 10):
        assert_within(out, attention)


NUM_ROWS = [1, 0, 5, 3, 17, 1, 40, 31]
"""Whole prompts, none, and the ends of those whose beginning is cached."""


@pytest.mark.parametrize(
    ("ops", "block_size", "num_kv_heads", "dtype", "window", "sinks"), EVERYWHERE, indirect=["ops"]
)
def test_prefill(
    ops: Ops, block_size: int, num_kv_heads: int, window: int, sinks: int, dtype: torch.dtype
) -> None:
    pool = pool_of(LENGTHS, block_size, num_kv_heads, dtype)
    check_prefill(ops, pool, NUM_ROWS, window, sinks)


@pytest.mark.parametrize(
    ("ops", "window", "sinks"),
    [(backend, *case) for backend in ("reference", "native") for case in ((1, 0), (100, 4), (150, 270))]
    + [("triton", 100, 4)],
    indirect=["ops"],
)
def test_prefill_over_tiles(ops: Ops, window: int, sinks: int) -> None:
    """Tiles of 256 tokens that a window leaves, skips, or cuts in two; and sinks of more than one."""
    check_prefill(ops, pool_of([560, 300], 16, 1, torch.float32), [560, 20], window, sinks)


def check_prefill(ops: Ops, pool: Pool, num_rows: list[int], window: int, sinks: int) -> None:
    query = torch.randn(sum(num_rows), 2 * pool.key_cache.shape[1], 16).to(pool.key_cache.dtype)
    starts = torch.tensor([0, *num_rows]).cumsum(0).int()
    spoilt = spoil_unseen(pool, num_rows, window, sinks)
    attention = attention_of(expected(pool, query, num_rows, window, sinks), SCALE)
    caches, lens = (spoilt.key_cache, spoilt.value_cache), pool.context_lens
    tables = [spoilt.addresses]
    if pool.block_size:
        tables.append(late(spoilt, num_rows, window, sinks))
    for where in tables:
        out = ops.attend_prefill(query, *caches, where, starts, lens, SCALE, window, sinks)
        assert_within(out, attention)


@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (4, 2), (3, 100), (100, 1)])
def test_padded_prefill(ops: Ops, window: int, sinks: int) -> None:
    """Positions count from the first token behind the padding."""
    lengths = [12, 1, 7]
    key, value = torch.randn(2, 3, 12, 2, 16)
    query = torch.randn(3, 12, 4, 16)
    out = ops.padded_prefill(query, key, value, torch.tensor(lengths), SCALE, window, sinks)
    assert out.isfinite().all()
    rows, contexts = [], []
    for i, length in enumerate(lengths):
        first = 12 - length
        for p in range(length):
            seen = first + torch.arange(length)[is_seen(p, torch.arange(length), window, sinks)]
            contexts.append((query[i, first + p, None], key[i, seen], value[i, seen]))
            rows.append(out[i, first + p])
    assert_attends(torch.stack(rows), contexts, SCALE)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_window_longer_than_the_context_changes_nothing(ops: Ops, dtype: torch.dtype) -> None:
    """Not a bit: the same tokens in the same order."""
    pool = paged_pool(LENGTHS, 16, 1, 16, dtype)
    query, caches = torch.randn(len(LENGTHS), 2, 16).to(dtype), (pool.key_cache, pool.value_cache)
    where = (pool.addresses, pool.context_lens, SCALE)
    full = ops.attend_decode(query, *caches, *where)
    for window, sinks in ((None, 5), (max(LENGTHS), 0), (1, max(LENGTHS)), (2**40, 2**40)):
        assert torch.equal(ops.attend_decode(query, *caches, *where, window, sinks), full)


def test_heads_that_share_keys(ops: Ops) -> None:
    pool = paged_pool([40, 100], 8, 2, 80, torch.float32)
    query = torch.randn(2, 16, 80)
    attention = attention_of(expected(pool, query, [1, 1], 21, 3), SCALE)
    for out in decode_all(ops, pool, query, 21, 3):
        assert_within(out, attention)


@pytest.mark.parametrize(
    ("window", "sinks", "firsts", "message"),
    [
        (0, 0, [0, 0], "window must be at least 1"),
        (-3, 0, [0, 0], "window must be at least 1"),
        (5, -1, [0, 0], "sinks must be at least 0"),
        (5, 0, [4, 0], r"first_positions\[0\] is 4, which must be a multiple of block_size"),
        (5, 0, [-8, 0], r"first_positions\[0\] is -8"),
        (5, 0, [0, 24], r"first_positions\[1\] is 24, which must be .* not behind what is seen"),
        (None, 0, [8, 0], r"first_positions\[0\] is 8"),
        (5, 0, [0], r"first_positions must be contiguous, of shape \[2\]"),
    ],
)
def test_native_errors(
    native: Ops, window: int | None, sinks: int, firsts: list[int], message: str
) -> None:
    pool = paged_pool([40, 20], 8, 1, 8, torch.float32)
    tables = BlockTables(pool.block_tables, 8, torch.tensor(firsts, dtype=torch.int32))
    caches, lens = (pool.key_cache, pool.value_cache), pool.context_lens
    with pytest.raises(ValueError, match=message):
        native.attend_decode(torch.randn(2, 1, 8), *caches, tables, lens, SCALE, window, sinks)


def test_native_finds_blocks_outside_the_cache(native: Ops) -> None:
    """In the entries that are read: those of the sinks and of the window."""
    pool = paged_pool([64], 8, 1, 8, torch.float32)
    caches, lens = (pool.key_cache, pool.value_cache), pool.context_lens
    for column in range(8):
        tables = pool.block_tables.clone()
        tables[0, column] = GARBAGE
        arguments = (torch.randn(1, 1, 8), *caches, BlockTables(tables, 8), lens, SCALE, 10, 9)
        if column in (2, 3, 4, 5):
            assert native.attend_decode(*arguments).isfinite().all()
            continue
        with pytest.raises(ValueError, match="lies outside the cache"):
            native.attend_decode(*arguments)
