"""VirtualCache: a KV cache over reserved addresses, whose pages the operating system commits on request."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from typing import TYPE_CHECKING

import torch

from pagedbench.execution.kv_cache import KVCache, KVCacheError

if TYPE_CHECKING:
    from torch import Tensor

    from pagedbench.memory.pages import PageRun
    from pagedbench.memory.virtual.page_pool import PagePool
    from pagedbench.simulation.shapes import ModelShape

MAP_NORESERVE = 0x4000  # not in Python's mmap before 3.13
MADV_POPULATE_WRITE = 23  # Linux 5.14
HUGE_PAGE = 2**21


class VirtualCache(KVCache):
    """Keys and values by virtual slot, on Linux.

    ::

        one reservation   | keys of layer 0 | keys of layer 1 | ... | values of the last layer |
        each of them      | extent 0 | extent 1 | ...          `PagePool.num_addresses` slots

    Every extent begins at a page boundary. A page has memory from `commit` to `give_back`. The operating
    system also commits memory that is touched uncommitted, so only times depend on commits. Pages of 2 MiB
    are huge pages where the operating system has them; smaller pages consist of the system's own.

    Raises:
        KVCacheError: the operating system cannot reserve the addresses, or has no such pages.
    """

    def __init__(self, shape: ModelShape, pages: PagePool, dtype: torch.dtype) -> None:
        self.page_bytes = pages.spec.page_bytes
        self._tensor_bytes = pages.max_extents * pages.extent_pages * self.page_bytes
        super().__init__(shape, pages.num_addresses, dtype, "cpu")

    def _allocate(self) -> Tensor:
        if sys.platform != "linux":
            raise KVCacheError("virtual extents need Linux on a CPU: take another system")
        if self.page_bytes % mmap.PAGESIZE:
            raise KVCacheError(f"--page-size must be at least this machine's {mmap.PAGESIZE:,} bytes")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        self._num_regions = 2 * self._num_tensors  # keys and values of each layer
        num_bytes = self._num_regions * self._tensor_bytes
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        try:
            reserved = mmap.mmap(-1, num_bytes + HUGE_PAGE, flags=flags)
        except (OSError, ValueError, OverflowError) as error:
            raise KVCacheError(
                f"virtual extents take {num_bytes / 2**40:,.1f} TiB of addresses, which the operating "
                "system does not give: lower --max-num-seqs or --max-model-len"
            ) from error
        whole = torch.frombuffer(reserved, dtype=torch.uint8)
        offset = -whole.data_ptr() % HUGE_PAGE
        whole = whole[offset : offset + num_bytes]
        self._first = whole.data_ptr()
        advice = mmap.MADV_HUGEPAGE if self.page_bytes >= HUGE_PAGE else mmap.MADV_NOHUGEPAGE
        self._libc.madvise(self._first, num_bytes, advice)  # without huge pages smaller ones serve
        return whole.view(self.dtype).view(self._size(self.num_slots))

    def commit(self, run: PageRun) -> None:
        """Give memory to the pages, in every tensor; their content is undefined.

        Raises:
            KVCacheError: the operating system has no memory left.
        """
        for start, size in self._ranges(run):
            if self._libc.madvise(start, size, MADV_POPULATE_WRITE) == 0:
                continue
            if ctypes.get_errno() != _UNKNOWN_ADVICE:
                reason = os.strerror(ctypes.get_errno())
                raise KVCacheError(f"pages of the KV pool cannot be committed: {reason}")
            for page in range(start, start + size, mmap.PAGESIZE):  # an older system: touch each
                ctypes.memset(page, 0, 1)

    def give_back(self, run: PageRun) -> None:
        """Take the memory from the pages, in every tensor; their content is lost."""
        for start, size in self._ranges(run):
            self._libc.madvise(start, size, mmap.MADV_DONTNEED)

    def clear(self) -> None:
        """Take the memory from all pages."""
        self._libc.madvise(self._first, self._num_regions * self._tensor_bytes, mmap.MADV_DONTNEED)

    def _ranges(self, run: PageRun) -> list[tuple[int, int]]:
        """The first address and the bytes of the pages in each tensor."""
        first, size = self._first + run.first * self.page_bytes, run.num_pages * self.page_bytes
        return [(first + i * self._tensor_bytes, size) for i in range(self._num_regions)]


_UNKNOWN_ADVICE = 22  # EINVAL
