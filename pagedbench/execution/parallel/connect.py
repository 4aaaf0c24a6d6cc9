"""Address: where the ranks of a run meet, and which of them this process is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

from torch._C._distributed_c10d import TCPStore

MEETING = timedelta(minutes=10)
"""The longest time that a rank waits for the others to start."""


@dataclass(frozen=True, slots=True)
class Address:
    """How a rank finds the others, and which rank it is.

    Attributes:
        threads: threads of this rank on a CPU.
        local_rank: its number among the ranks of this machine, which is also the number of its GPU.
        is_local: are all ranks on this machine?
        has_server: does a process other than rank 0 keep the store (torchrun's agent)?
    """

    rank: int
    num_ranks: int
    host: str
    port: int
    threads: int
    local_rank: int = 0
    is_local: bool = True
    has_server: bool = False

    @classmethod
    def of_torchrun(cls, threads: int) -> Address:
        """The address that torchrun gave this process."""
        environ = os.environ
        return cls(
            int(environ["RANK"]),
            int(environ["WORLD_SIZE"]),
            environ["MASTER_ADDR"],
            int(environ["MASTER_PORT"]),
            threads,
            int(environ.get("LOCAL_RANK", 0)),
            is_local=environ.get("LOCAL_WORLD_SIZE") == environ["WORLD_SIZE"],
            has_server=environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        )


def connected(address: Address, *, serves: bool = False) -> TCPStore:
    """A connection to the store of the ranks, for one thread. `serves`: this process keeps the store."""
    return TCPStore(address.host, address.port, None, serves, timeout=MEETING, wait_for_workers=False)
