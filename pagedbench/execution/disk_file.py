"""DiskFile: evicted blocks in a nameless file, which threads write and read while iterations run."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch

from pagedbench.clock import MAX_SLEEP
from pagedbench.config import ConfigError
from pagedbench.memory.disk import MAX_STAGED
from pagedbench.memory.moves import Pool

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.memory.disk import Sleeper
    from pagedbench.memory.moves import Copy


class DiskFile:
    """A token's keys and values of all layers lie together, so a block is written and read in one piece.

    ::

        slot 0: [key of layer 0] [key of layer 1] ... [value of the last layer]   slot 1: ...

    Slots to be written are first copied to staging memory, so that they are free at once. One thread writes
    and one reads, each in order; a read waits for the writes of the blocks that it reads. The file is
    sparse and has no name: the system removes it when the process ends, however that happens.
    """

    def __init__(self, cache: KVCache, num_slots: int, folder: str | None) -> None:
        """Make an empty file for `num_slots` tokens in `folder`; None: the system's temporary one.

        Raises:
            ConfigError: the folder cannot be written, or has no room.
        """
        self._cache = cache
        self._slot_bytes = cache.num_bytes // cache.num_slots
        folder = folder or tempfile.gettempdir()
        size = num_slots * self._slot_bytes
        try:
            free = shutil.disk_usage(folder).free
            if size > free:
                raise ConfigError(
                    f"--disk-cache takes up to {size / 2**30:,.1f} GiB, but {folder} has "
                    f"{free / 2**30:,.1f} GiB free: lower it, or name another folder with --disk-cache-dir"
                )
            with ExitStack() as stack:
                self._file = stack.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))
                ends = stack.pop_all()  # the file is open until `close`
        except OSError as error:
            raise ConfigError(
                f"the file of --disk-cache cannot be made in {folder} ({error.strerror}): name another "
                "folder with --disk-cache-dir"
            ) from error
        self._writer, self._reader = (ThreadPoolExecutor(1) for _ in range(2))
        for thread in (self._reader, self._writer):
            ends.callback(thread.shutdown, cancel_futures=True)  # what runs ends before the file is closed
        self._end = weakref.finalize(self, ends.close)
        self._written: dict[int, Future[None]] = {}  # first slot of a block -> its latest write
        self._staged: list[tuple[Future[None], int]] = []  # writes that may not have ended, and their slots
        self._read: Future[None] | None = None

    @property
    def room(self) -> int:
        self._staged = [item for item in self._staged if not item[0].done()]
        return MAX_STAGED // self._slot_bytes - sum(number for _, number in self._staged)

    def write(self, copies: Items[Copy]) -> None:
        for pool, group in groupby(copies, lambda copy: copy.source_pool):
            own = list(group)
            data = _bytes_of(self._cache.pool(pool), own)
            job = self._writer.submit(_write, self._file.fileno(), data, [c.destination for c in own])
            self._staged.append((job, len(data)))
            self._written.update((copy.destination, job) for copy in own)

    def read(self, copies: Items[Copy]) -> None:
        assert self._read is None, "two reads at a time"
        host = _rows(self._cache.pool(Pool.HOST_CACHE))
        writes = [self._written[copy.source] for copy in copies]
        self._read = self._reader.submit(_read, self._file.fileno(), host, copies, writes)

    def poll(self) -> bool | None:
        if self._read is None or not self._read.done():
            return None
        error, self._read = self._read.exception(), None
        if error is not None and not isinstance(error, OSError):
            raise error
        return error is None

    def wait_for_read(self) -> None:
        """Return when the read under way has ended."""
        if self._read is not None:
            wait([self._read])

    def wait(self, clock: Sleeper, until: float | None) -> bool:
        if self._read is None:
            return False
        left = MAX_SLEEP if until is None else until - clock.now
        wait([self._read], timeout=min(max(left, 0.0), MAX_SLEEP))
        return True

    def close(self) -> None:
        self._end()


def _rows(pool: torch.Tensor) -> NDArray[np.uint8]:
    """The memory of a host pool.  # [2 x num_layers, num_slots, bytes of a row]"""
    rows: NDArray[np.uint8] = pool.flatten(2).view(torch.uint8).numpy()
    return rows


def _bytes_of(pool: torch.Tensor, copies: Items[Copy]) -> NDArray[np.uint8]:
    """A copy of the slots that are to be written; on a GPU it is made after the work queued so far.

    # [num_slots, 2 x num_layers, bytes of a row]
    """
    slots = torch.cat([torch.arange(copy.source, copy.source + copy.num_slots) for copy in copies])
    chosen = pool.index_select(1, slots.to(pool.device)).transpose(0, 1).contiguous()
    return _rows(chosen.cpu())


def _write(file: int, data: NDArray[np.uint8], targets: Items[int]) -> None:
    """Write blocks of equal size, each from its first slot on."""
    for target, block in zip(targets, np.split(data, len(targets)), strict=True):
        left, offset = block.reshape(-1).data, target * data[0].nbytes
        while left:
            number = os.pwrite(file, left, offset)
            left, offset = left[number:], offset + number


def _read(file: int, host: NDArray[np.uint8], copies: Items[Copy], writes: Items[Future[None]]) -> None:
    """Read blocks into the host's pool, each once it is written.

    Raises:
        OSError: one of them could not be written or read.
    """
    for copy, written in zip(copies, writes, strict=True):
        written.result()
        block = np.empty((copy.num_slots, len(host), host.shape[2]), dtype=np.uint8)
        left, offset = block.reshape(-1).data, copy.source * block[0].nbytes
        while left:
            number = os.preadv(file, [left], offset)
            if not number:
                raise OSError("the file of --disk-cache ends too early")
            left, offset = left[number:], offset + number
        host[:, copy.destination : copy.destination + copy.num_slots] = block.transpose(1, 0, 2)
