"""The file behind the host tier: what is written comes back, what fails is a miss, and no file is left."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
import torch

from pagedbench.clock import WallClock
from pagedbench.config import ConfigError
from pagedbench.execution import disk_file
from pagedbench.execution.disk_file import DiskFile
from pagedbench.execution.kv_cache import KVCache
from pagedbench.memory.disk import MAX_STAGED
from pagedbench.memory.moves import Copy, Pool
from pagedbench.simulation.shapes import ModelShape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHAPE = ModelShape("tiny", "llama", 3, 64, 8, 2, 8, 64, 100, 64)
SIZE = 4
"""Slots of a block."""


@pytest.fixture(params=[torch.float32, torch.bfloat16])
def cache(request: pytest.FixtureRequest) -> KVCache:
    cache = KVCache(SHAPE, 40, request.param, "cpu")
    cache.reserve_host(24, Pool.HOST_CACHE)
    for pool in (Pool.DEVICE, Pool.HOST_CACHE):
        cache.pool(pool).copy_(torch.rand(cache.pool(pool).shape))
    return cache


@pytest.fixture
def disk(cache: KVCache, tmp_path: Path) -> Iterator[DiskFile]:
    disk = DiskFile(cache, 80, str(tmp_path))
    yield disk
    disk.close()


def write(block: int, place: int, pool: Pool = Pool.HOST_CACHE) -> Copy:
    return Copy(block * SIZE, place * SIZE, SIZE, pool, Pool.DISK)


def read(place: int, block: int) -> Copy:
    return Copy(place * SIZE, block * SIZE, SIZE, Pool.DISK, Pool.HOST_CACHE)


def outcome(disk: DiskFile) -> bool:
    """Wait for the read under way."""
    clock = WallClock()
    while (ended := disk.poll()) is None:
        assert disk.wait(clock, None)
    assert not disk.wait(clock, None)
    assert disk.poll() is None
    return ended


def block_of(cache: KVCache, pool: Pool, block: int) -> torch.Tensor:
    return cache.pool(pool)[:, block * SIZE : (block + 1) * SIZE]


def test_blocks_of_both_pools_come_back_elsewhere(cache: KVCache, disk: DiskFile) -> None:
    expected = [block_of(cache, Pool.HOST_CACHE, 1).clone(), block_of(cache, Pool.DEVICE, 7).clone()]
    untouched = block_of(cache, Pool.HOST_CACHE, 0).clone()
    disk.write([write(1, 19), write(7, 3, Pool.DEVICE)])
    block_of(cache, Pool.HOST_CACHE, 1).zero_()  # free as soon as `write` has returned
    block_of(cache, Pool.DEVICE, 7).zero_()
    disk.read([read(19, 5), read(3, 2)])
    assert outcome(disk)
    assert torch.equal(block_of(cache, Pool.HOST_CACHE, 5), expected[0])
    assert torch.equal(block_of(cache, Pool.HOST_CACHE, 2), expected[1])
    assert torch.equal(block_of(cache, Pool.HOST_CACHE, 0), untouched)


def test_a_place_is_written_again(cache: KVCache, disk: DiskFile) -> None:
    disk.write([write(1, 4)])
    disk.write([write(2, 4)])
    disk.read([read(4, 5)])
    assert outcome(disk)
    assert torch.equal(block_of(cache, Pool.HOST_CACHE, 5), block_of(cache, Pool.HOST_CACHE, 2))


def test_a_full_disk_is_a_miss(disk: DiskFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk_file.os, "pwrite", full)
    disk.write([write(1, 4)])
    disk.read([read(4, 5)])
    assert not outcome(disk)
    monkeypatch.undo()
    disk.write([write(1, 4)])
    disk.read([read(4, 5)])
    assert outcome(disk)


def test_writes_come_in_pieces(cache: KVCache, disk: DiskFile, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(disk_file.os, "pwrite", lambda file, data, offset: whole(file, data[:100], offset))
    disk.write([write(1, 4)])
    disk.read([read(4, 5)])
    assert outcome(disk)
    assert torch.equal(block_of(cache, Pool.HOST_CACHE, 5), block_of(cache, Pool.HOST_CACHE, 1))


def test_no_file_has_a_name_and_little_is_stored(cache: KVCache, tmp_path: Path) -> None:
    disk = DiskFile(cache, 10**6, str(tmp_path))
    disk.write([write(1, 4)])
    assert list(tmp_path.iterdir()) == []
    assert disk.room <= MAX_STAGED // (cache.num_bytes // cache.num_slots)
    disk.close()
    disk.close()


def test_a_folder_that_cannot_be_used(cache: KVCache, tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path / "file"):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match=r"cannot be made in .* name another folder") as error:
            DiskFile(cache, 8, str(folder))
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"takes up to .* GiB, but .* free: lower it"):
        DiskFile(cache, 2**50, str(tmp_path))
