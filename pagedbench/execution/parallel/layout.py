"""RankLayout: how many processes compute a run, how they communicate, and how many threads each has."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pagedbench.config import ConfigError

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
"""The backend that exchanges tensors, by device."""


@dataclass(frozen=True, slots=True)
class RankLayout:
    """The processes of a tensor-parallel run.

    Attributes:
        backend: the backend that exchanges their tensors.
        threads: threads of each rank on a CPU.
        is_torchrun: did torchrun start them? Otherwise rank 0 does.
    """

    num_ranks: int
    backend: str
    threads: int
    is_torchrun: bool

    def __str__(self) -> str:
        started = ", started by torchrun" if self.is_torchrun else ""
        return (
            f"{self.num_ranks} ranks ({self.backend}{started}), {self.threads} "
            f"thread{'' if self.threads == 1 else 's'} each"
        )


def rank_layout(num_ranks: int, device: str) -> RankLayout | None:
    """The processes of a run on a real device; None: it is this one.

    Raises:
        ConfigError: torchrun has started another number of ranks, or there is no GPU for each.
    """
    found = int(os.environ["WORLD_SIZE"]) if is_torchrun() else num_ranks
    if found != num_ranks:
        raise ConfigError(
            f"torchrun has started {found} ranks, but the run asks for {num_ranks}: give "
            f"--tensor-parallel-size {found}"
        )
    if num_ranks == 1:
        return None
    num_local = _num_local_of_torchrun() if is_torchrun() else num_ranks
    if device == "cuda":
        _check_gpus(num_local)
    return RankLayout(num_ranks, BACKENDS[device], _threads(num_local), is_torchrun())


def threads_of_torchrun() -> int:
    """Threads of each rank that torchrun has started on this machine."""
    return _threads(_num_local_of_torchrun())


def is_torchrun() -> bool:
    """Did torchrun start this process?"""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_other_rank() -> bool:
    """Did torchrun start this process as a rank that only computes?"""
    return is_torchrun() and os.environ.get("RANK", "0") != "0"


def _num_local_of_torchrun() -> int:
    return int(os.environ["LOCAL_WORLD_SIZE"])


def _threads(num_local: int) -> int:
    """Threads per rank: the cores are divided among the ranks of a machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // num_local, 1)


def _check_gpus(num_ranks: int) -> None:
    import torch

    if (number := torch.cuda.device_count()) < num_ranks:
        raise ConfigError(
            f"--tensor-parallel-size needs a GPU for each of the {num_ranks} ranks of this machine, which "
            f"has {number}: lower it, or take --device cpu"
        )
