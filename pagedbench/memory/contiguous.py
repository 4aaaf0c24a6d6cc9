"""One contiguous extent per sequence: Orca's buddy allocation, and FasterTransformer's equal extents."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pagedbench.memory.buddy import Buddy
from pagedbench.memory.extents import ExtentManager
from pagedbench.memory.manager import Allocation

if TYPE_CHECKING:
    from typing import Self

    from pagedbench.memory.pool_spec import PoolSpec
    from pagedbench.request import Request, SequenceGroup


class Contiguous(ExtentManager):
    """Reserves an extent for the prompt and the output, rounded up to a power of two of blocks.

    Every sequence of a group gets its own full extent, or the group gets none.
    """

    def __init__(self, num_slots: int, block_size: int, max_model_len: int) -> None:
        self.block_size = block_size
        self.max_model_len = max_model_len
        max_chunk = Buddy.chunk_size(-(-max_model_len // block_size))
        self.buddy = Buddy(num_slots // block_size, max_chunk)
        super().__init__(self.buddy.num_blocks * block_size)

    @abstractmethod
    def estimate(self, output_len: int) -> int:
        """How many tokens of output to reserve for a request whose true output is `output_len` tokens."""

    def _requested_len(self, request: Request) -> int:
        return min(request.prompt_len + self.estimate(request.reply_len), self.max_model_len)

    def _chunk_blocks(self, request: Request) -> int:
        return Buddy.chunk_size(-(-self._requested_len(request) // self.block_size))

    def can_allocate(self, group: SequenceGroup) -> Allocation:
        chunk, n = self._chunk_blocks(group.request), group.request.sampling.width
        too_long = group.max_len > self.max_model_len
        if too_long or self.buddy.capacity(chunk) < n:
            return Allocation.NEVER
        return Allocation.OK if self.buddy.num_available(chunk) >= n else Allocation.LATER

    def allocate(self, group: SequenceGroup) -> list[int]:
        chunk = self._chunk_blocks(group.request)
        for sequence in group.sequences:
            start = self.buddy.allocate(chunk) * self.block_size
            self.hold(sequence, start, chunk * self.block_size, self._requested_len(group.request))
        return [0] * group.num_sequences  # nothing is shared: every sequence computes its own prompt

    def release(self, start: int) -> None:
        self.buddy.free(start // self.block_size)

    def check_integrity(self) -> None:
        super().check_integrity()
        self.buddy.check_integrity()
        taken = self.buddy.num_blocks - self.buddy.num_free
        assert taken * self.block_size == self.num_taken, "extents and buddy chunks do not match"


class OracleReservation(Contiguous):
    """Orca (Oracle): reserves for the true length, which no real system knows (paper, section 6.1)."""

    def estimate(self, output_len: int) -> int:
        return output_len


class Pow2Reservation(Contiguous):
    """Orca (Pow2): rounds the true length up to a power of two, at most twice too much (25 -> 32)."""

    def estimate(self, output_len: int) -> int:
        return 1 << max(output_len - 1, 0).bit_length()


class MaxReservation(Contiguous):
    """Orca (Max): reserves whatever the model could still produce."""

    def estimate(self, output_len: int) -> int:
        return self.max_model_len


class EqualExtents(ExtentManager):
    """FasterTransformer: `batch_size` requests have equal extents, and keep them until the batch ends."""

    has_equal_extents: ClassVar[bool] = True

    def __init__(self, num_slots: int, block_size: int, max_model_len: int, batch_size: int) -> None:
        super().__init__(num_slots // block_size * block_size)
        self.batch_size = batch_size
        self.max_model_len = max_model_len
        self.width = self.extent_len = 0
        self._free_starts: list[int] = []
        self._cut(width=1)

    @classmethod
    def build(cls, pool: PoolSpec) -> Self:
        return cls(pool.num_slots, pool.block_size, pool.max_model_len, pool.batch_size)

    def _cut(self, width: int) -> None:
        """Divide the pool among `batch_size` requests of `width` sequences each."""
        self.width = width
        self.extent_len = self._extent_len(width)
        num_extents = self.batch_size * width
        self._free_starts = [i * self.extent_len for i in reversed(range(num_extents))]

    def _extent_len(self, width: int) -> int:
        return min(self.max_model_len, self.num_slots // (self.batch_size * width))

    def can_allocate(self, group: SequenceGroup) -> Allocation:
        width = group.request.sampling.width
        if group.max_len > self._extent_len(width):
            return Allocation.NEVER
        is_free = not self._held or (width == self.width and len(self._free_starts) >= width)
        return Allocation.OK if is_free else Allocation.LATER

    def allocate(self, group: SequenceGroup) -> list[int]:
        width = group.request.sampling.width
        if width != self.width:
            self._cut(width)
        for sequence in group.sequences:
            self.hold(sequence, self._free_starts.pop(), self.extent_len, self.extent_len)
        return [0] * group.num_sequences

    def release(self, start: int) -> None:
        self._free_starts.append(start)

    def check_integrity(self) -> None:
        super().check_integrity()
        starts = set(self._free_starts)
        assert len(starts) == len(self._free_starts), "an extent is free twice"
        assert not starts & self.held_starts, "an extent is free and taken"
        assert len(starts) + len(self.held_starts) == self.batch_size * self.width, "an extent was lost"
