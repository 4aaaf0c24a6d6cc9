"""Memory bandwidth: how fast this machine reads its memory at the moment.

On a virtual machine it changes while a program runs: the host moves virtual cores between groups of real
cores, and each group shares one path to memory. The guest cannot choose.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from pagedbench.clock import WallClock

NOISE = 1.25
"""Readings within this ratio count as equal: noise is a tenth; placements differ by half or more."""

ASSUMED_CACHE_BYTES = 32 * 2**20
"""Bytes of the last-level cache where the system does not report its size."""

CACHES_IN_FOOTPRINT = 4
"""The rotated operands together take this many times the last-level cache."""


def read_bandwidth(device: str) -> float | None:
    """How fast all threads read memory beyond the caches, in bytes per second; takes some milliseconds.

    What is read are the packed weights of models, which takes no memory from a run, or without enough of
    them a buffer, which is freed. None for accelerators, which have memory of their own, and without the
    native module.
    """
    if device != "cpu":
        return None
    import torch

    try:
        cpu = importlib.import_module("pagedbench.kernels._cpu")
    except ImportError:
        return None
    from pagedbench.ops.native import NativeLinear

    num_threads = torch.get_num_threads()
    weights = [linear.packed for linear in NativeLinear.in_use]
    probe = cpu.ReadProbe(rotation_bytes(device), num_threads, weights)
    probe.read(1, num_threads)  # so that what the caches hold is what is read last
    clock = WallClock()
    probe.read(1, num_threads)
    return float(probe.num_bytes / clock.now)


def is_same(one: float | None, other: float | None) -> bool:
    """Are two readings the same except for noise? A missing reading counts as the same."""
    if one is None or other is None:
        return True
    return max(one, other) <= NOISE * min(one, other)


def variation_sentence(slowest: float, fastest: float) -> str:
    """What different readings mean, in a sentence."""
    return (
        f"Memory bandwidth varied during the run ({slowest / 1e9:.0f} to {fastest / 1e9:.0f} GB/s): "
        "timings on this machine are unstable."
    )


def rotation_bytes(device: str) -> int:
    """Bytes of operands to rotate over, so that they come from memory and not from a cache."""
    if device == "cuda":
        import torch

        return CACHES_IN_FOOTPRINT * int(torch.cuda.get_device_properties(0).L2_cache_size)
    return CACHES_IN_FOOTPRINT * last_level_cache_bytes()


def last_level_cache_bytes(place: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """The size of the largest cache that the system reports."""
    sizes = [ASSUMED_CACHE_BYTES]
    for path in place.glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        if text.endswith("K") and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * 2**10)
        elif text.endswith("M") and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * 2**20)
    return max(sizes)
