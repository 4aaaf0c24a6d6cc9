"""Buddy: contiguous extents of a power of two of blocks, as the authors' Orca allocates them."""

from __future__ import annotations


class Buddy:
    """A buddy allocator over blocks [0, num_blocks), after `orca/cacheflow/master/block_manager.py`.

    ::

        981 blocks, chunks of at most 128:   7 x 128 | 64 | 16 | 4 | 1
        allocate 20  ->  a chunk of 32: the lowest quarter of the last free 128
                         [ 32 | 32 free | 64 free ]

    A chunk's buddy is at its address XOR its size; free buddies merge.
    """

    def __init__(self, num_blocks: int, max_chunk: int) -> None:
        self.num_blocks = num_blocks
        self.max_chunk = max_chunk
        self._free: dict[int, list[int]] = {}  # size -> addresses, the one freed last at the end
        self._taken: dict[int, int] = {}  # address -> size
        self.num_free = num_blocks
        size = max_chunk
        address = 0
        while size:
            self._free[size] = []
            while address + size <= num_blocks:
                self._free[size].append(address)
                address += size
            size //= 2
        self._initial = {size: len(addresses) for size, addresses in self._free.items()}

    @staticmethod
    def chunk_size(num_blocks: int) -> int:
        """The smallest power of two that is at least `num_blocks` (and 1)."""
        return 1 << max(num_blocks - 1, 0).bit_length()

    def capacity(self, size: int) -> int:
        """How many chunks of `size` an empty pool holds."""
        return sum(count * (chunk // size) for chunk, count in self._initial.items() if chunk >= size)

    def num_available(self, size: int) -> int:
        """How many chunks of `size` could be allocated now."""
        return sum(len(free) * (chunk // size) for chunk, free in self._free.items() if chunk >= size)

    def allocate(self, size: int) -> int:
        """Take a chunk of exactly `size` (a power of two) and return its address."""
        chunk = size
        while not self._free.get(chunk):
            assert chunk < self.max_chunk, f"no free chunk of {size} blocks"
            chunk *= 2
        address = self._free[chunk].pop()
        while chunk > size:
            chunk //= 2
            self._free[chunk].append(address + chunk)
        self._taken[address] = size
        self.num_free -= size
        return address

    def free(self, address: int) -> None:
        """Give a chunk back and merge it with its buddy as long as that is free."""
        size = self._taken.pop(address)
        self.num_free += size
        while size < self.max_chunk:
            buddy = address ^ size
            if buddy not in self._free[size]:
                break
            self._free[size].remove(buddy)
            address = min(address, buddy)
            size *= 2
        self._free[size].append(address)

    def check_integrity(self) -> None:
        """Chunks cover the pool exactly once, are aligned, and free buddies have merged."""
        chunks = list(self._taken.items())
        chunks += [(address, size) for size, free in self._free.items() for address in free]
        end = 0
        for address, size in sorted(chunks):
            assert address == end, f"blocks {end} to {address} have no owner, or two"
            assert address % size == 0, f"the chunk of {size} at {address} is not aligned"
            end = address + size
        assert end == self.num_blocks, "the last blocks have no owner"
        assert self.num_free == self.num_blocks - sum(self._taken.values()), "the free total is wrong"
        for size, free in self._free.items():
            buddies = {address ^ size for address in free}
            assert size == self.max_chunk or not buddies & set(free), (
                f"two free buddies of {size} did not merge"
            )
