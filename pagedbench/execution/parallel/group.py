"""RankGroup: the exchanges between the ranks of a run, by torch.distributed, until one of them is lost."""

from __future__ import annotations

import os
import pickle
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed import distributed_c10d as c10d

from pagedbench.execution.parallel.progress import LATE_ON_GPU

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from pagedbench.execution.parallel.progress import Progress

FRAME = 4096
"""Bytes of the first broadcast of a message, its length included; most messages need no second."""

LENGTH = 8
"""Bytes of the length of a message."""

SLICE = timedelta(seconds=0.2)
"""A rank waits for the others in slices of this time, and checks between them whether all are alive."""

FOREVER = timedelta(days=365)
"""Timeout of torch.distributed: a run may wait that long for a request. Heartbeats find ranks that hang."""


class RankGroup:
    """The processes of one run, each with its number. See `models.shared.Ranks`.

    Messages go through gloo, on any device. Partial sums are exchanged whole and added in the order of the
    ranks, so the sum has the same bits on every rank, in every run, whatever else is in the batch. (Two
    ranks exchange as many bytes as by a ring, four ranks twice as many.)
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        num_ranks: int,
        *,
        is_local: bool,
        progress: Progress,
        explain: Callable[[BaseException | None], None],
    ) -> None:
        """Meet the other ranks.

        Args:
            store: the store of torch.distributed, the same for all ranks.
            is_local: are all of them on this machine?
            progress: counts the exchanges of this rank.
            explain: raises an error that names the rank at fault if one is lost. Given an error, it waits
                until the rank is known.
        """
        self.rank = rank
        self.num_ranks = num_ranks
        self.progress = progress
        self._explain = explain
        # Its options are in no stub, and its public constructor takes no network device.
        gloo: Any = c10d.ProcessGroupGloo
        options = gloo._Options()
        options._timeout = FOREVER
        options._devices = [_network(is_local=is_local)]
        self._store = store
        own = c10d.PrefixStore("gloo", store)
        self._host = self._met(lambda: gloo(own, rank, num_ranks, options))
        self._device: Any = None  # the process group that exchanges tensors on a GPU

    def use(self, device: str) -> None:
        """Prepare to exchange tensors from this device. All ranks call it."""
        if device == "cuda" and self._device is None:
            self.progress.limit = LATE_ON_GPU
            own, options = c10d.PrefixStore("nccl", self._store), c10d.ProcessGroupNCCL.Options()
            self._device = self._met(lambda: c10d.ProcessGroupNCCL(own, self.rank, self.num_ranks, options))

    def _met(self, connect: Callable[[], Any]) -> Any:
        try:
            return connect()
        except RuntimeError as error:
            self._explain(error)
            raise

    def broadcast(self, message: object) -> int:
        """Send a message from rank 0 to the others. Returns the bytes that each of them gets."""
        content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        data = len(content).to_bytes(LENGTH, "little") + content
        data += bytes(max(FRAME - len(data), 0))
        whole = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        self._broadcast(whole[:FRAME])
        if len(whole) > FRAME:
            self._broadcast(whole[FRAME:])
        return len(whole)

    def receive(self) -> Any:
        """The next message of rank 0."""
        frame = torch.empty(FRAME, dtype=torch.uint8)
        self._broadcast(frame)
        first = frame.numpy().tobytes()
        length = int.from_bytes(first[:LENGTH], "little")
        rest = torch.empty(max(LENGTH + length - FRAME, 0), dtype=torch.uint8)
        if len(rest):
            self._broadcast(rest)
        return pickle.loads((first + rest.numpy().tobytes())[LENGTH : LENGTH + length])

    def sum(self, part: Tensor) -> Tensor:
        """See `models.shared.Ranks`. The sum is rounded once, to the dtype of the parts."""
        parts = part.new_empty((self.num_ranks, *part.shape))
        group = self._group_of(part)
        self._exchange(group, lambda: group.allgather([list(parts.unbind())], [part.contiguous()]))
        total = parts[0].float()
        for other in parts[1:]:
            total = total + other
        return total.to(part.dtype)

    def gather(self, part: Tensor) -> list[Tensor]:
        """See `models.shared.Ranks`."""
        options = c10d.GatherOptions()
        options.rootRank = 0
        parts = [torch.empty_like(part) for _ in range(self.num_ranks)] if self.rank == 0 else []
        group = self._group_of(part)
        self._exchange(group, lambda: group.gather([parts] if parts else [], [part.contiguous()], options))
        return parts

    def all_agree(self, answer: bool) -> bool:
        """Do all ranks answer yes? Every rank gets the result."""
        answers = torch.zeros((self.num_ranks, 1), dtype=torch.uint8)
        own = torch.tensor([answer], dtype=torch.uint8)
        self._exchange(self._host, lambda: self._host.allgather([list(answers.unbind())], [own]))
        return bool(answers.all())

    def abort(self) -> None:
        """End exchanges that wait on a GPU for a lost rank."""
        if self._device is not None:
            self._device.abort()

    def _group_of(self, tensor: Tensor) -> Any:
        return self._device if tensor.is_cuda else self._host

    def _broadcast(self, data: Tensor) -> None:
        options = c10d.BroadcastOptions()
        options.rootRank, options.rootTensor = 0, 0
        self._exchange(self._host, lambda: self._host.broadcast([data], options))

    def _exchange(self, group: Any, begin: Callable[[], Any]) -> None:
        self.progress.begin_exchange()
        self._finish(begin(), group)
        self.progress.end_exchange()

    def _finish(self, work: Any, group: Any) -> None:
        """Wait for an exchange as long as all ranks are alive.

        Raises:
            RankError: a rank is lost.
        """
        if group is self._device:
            work.wait()  # on a GPU it is only queued here
            return
        has_ended = False
        while True:
            try:
                work.wait(SLICE)
                return
            except RuntimeError as error:
                if has_ended:
                    self._explain(error)
                    raise
                has_ended = work.is_completed()  # then the next wait says how
                self._explain(None)


def _network(*, is_local: bool) -> Any:
    """The network device of gloo: loopback, the interface asked for, or that of the host name."""
    if is_local:
        return c10d.ProcessGroupGloo.create_device(hostname="127.0.0.1")
    if name := os.environ.get("GLOO_SOCKET_IFNAME"):
        return c10d.ProcessGroupGloo.create_device(interface=name)
    return c10d.ProcessGroupGloo.create_default_device()
