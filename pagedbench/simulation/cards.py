"""Cards: simulated accelerators by their makers' figures, and the host programs that drive them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pagedbench.config import ConfigError

NOT_VERIFIED = "not verified against any measured time"


@dataclass(frozen=True, slots=True)
class Card:
    """One accelerator.

    Attributes:
        memory: bytes that the device reports.
        peak: dense 16-bit operations per second.
        bandwidth: bytes per second of its memory.
        num_multiprocessors: multiprocessors, each of which computes one tile of a product at a time.
        link: bytes per second that ranks exchange in a measured all-reduce (see `roofline`).
        bus: bytes per second to or from the host.
        source: the source of the figures, in words.
        kernels: the card whose kernel times are used for today's engines on this one
            (`modern_times.TIMES`), scaled by peak, bandwidths and multiprocessors.
        verified: which of its simulated times were compared with measured ones; empty: none.
    """

    name: str
    memory: int
    peak: float
    bandwidth: float
    num_multiprocessors: int
    link: float
    bus: float
    source: str
    kernels: str = "a100-80gb"
    verified: str = ""

    @property
    def words(self) -> str:
        """Name and source, and whether its times were ever compared with measured ones."""
        return f"{self.name.upper()} ({self.source}{'' if self.verified else f'; {NOT_VERIFIED}'})"


@dataclass(frozen=True, slots=True)
class Host:
    """The host time of an engine, in seconds: `step` per iteration, `request` per running request.

    `parallel` is added per iteration if there are several ranks. `cost_model`: its name in `--cost-model`.
    """

    cost_model: str
    step: float
    request: float
    source: str
    parallel: float = 0.0


_NVIDIA = "NVIDIA's datasheet"
_PCIE_4, _PCIE_5 = 25e9, 50e9  # of 32 and 64 GB/s; the protocol takes the rest
_LINK = 178e9
_PCIE_LINK = 64 / 600 * _LINK
_MIB = 2**20
_NO_LINK = "ranks exchange over PCIe, in proportion to the A100's link (64 to 600 GB/s)"
_KERNELS, _ENGINES = "kernels (calibrate --operator-times)", "whole engines (reproduce engines)"

CARDS = {
    card.name: card
    for card in (
        Card(
            "a100-40gb", 42_405_855_232, 312e12, 1.555e12, 108, _LINK, _PCIE_4, _NVIDIA, verified=_ENGINES
        ),
        Card(
            "a100-80gb", 85_030_000_000, 312e12, 2.039e12, 108, _LINK, _PCIE_4,
            f"{_NVIDIA}; its memory is assumed, so that OPT-175B gets the paper's 60,128 slots",
            verified=f"{_KERNELS}, {_ENGINES}",
        ),
        Card(
            "h100", 85_030_000_000, 989e12, 3.35e12, 132, 1.5 * _LINK, _PCIE_5,
            f"{_NVIDIA} (SXM); memory as the A100's, its link in proportion (900 to 600 GB/s)",
            kernels="h100", verified=_KERNELS,
        ),
        Card(
            "h200", 150_100_000_000, 989e12, 4.8e12, 132, 1.5 * _LINK, _PCIE_5,
            f"{_NVIDIA} (SXM); its link in proportion to the A100's (900 to 600 GB/s)",
            kernels="h100",
        ),
        Card(
            "b200", 183_359 * _MIB, 2250e12, 7.7e12, 148, 3 * _LINK, _PCIE_5,
            f"{_NVIDIA} (HGX); its link in proportion to the A100's (1,800 to 600 GB/s)", kernels="h100",
        ),
        Card("l4", 23_034 * _MIB, 121e12, 300e9, 58, _PCIE_LINK, _PCIE_4, f"{_NVIDIA}; {_NO_LINK}"),
        Card("l40s", 46_068 * _MIB, 362.05e12, 864e9, 142, _PCIE_LINK, _PCIE_4, f"{_NVIDIA}; {_NO_LINK}"),
        Card(
            "rtx-4090", 24_564 * _MIB, 165.2e12, 1.008e12, 128, _PCIE_LINK, _PCIE_4,
            f"NVIDIA's Ada whitepaper, sums in 32 bits; {_NO_LINK}",
        ),
        Card(
            "mi300x", 192 * 2**30, 1307.4e12, 5.3e12, 304, 896 / 600 * _LINK, _PCIE_5,
            "AMD's datasheet; its link in proportion to the A100's (896 to 600 GB/s)", kernels="h100",
        ),
    )
}  # fmt: skip
"""Cards by name. Peaks are dense. From the B200 on, memory is what nvidia-smi reports (AMD: the datasheet),
and multiprocessors are cores by 128 (AMD: compute units).

The A100's link is fitted to all-reduces within one node of 4 and of 8 cards (medians that Vidur
publishes): a ring in which each of p cards moves 2 (p - 1) / p times the bytes at 178 GB/s, after 50
microseconds (`roofline.ALL_REDUCE_SECONDS`). It is within 15 % of the eight medians, except for one of 32
microseconds.
"""

LEAN = Host("roofline", step=4e-3, request=0.0, source="4 ms of host time per iteration, assumed")
MODERN = Host(
    "modern",
    step=0.0,
    request=0.0,
    source="no host time: scheduling overlaps computing (vLLM's async scheduling, SGLang 0.4)",
)
"""According to their documentation; TensorRT-LLM's runtime does so too."""

FASTER_TRANSFORMER = Host("vllm-2023", step=0.0, request=0.0, source="no host: a program in C++")
VLLM_2023 = Host(
    "vllm-2023",
    step=4e-3,
    request=0.225e-3,
    source=(
        "4 ms of host time per iteration (11 ms with several ranks) and 0.225 ms per request, the paper's "
        "engine (fits its Fig. 13b)"
    ),
    parallel=7e-3,
)
"""`request`: its sampler worked request by request, on the device, independent of the number of sequences.
`parallel`: vLLM's step times with 2, 4 and 8 ranks, which DistServe publishes for OPT-13B and OPT-66B,
begin 10.3 to 11.6 ms above this roofline without a host; with one rank 6.1 ms."""


def check_device(name: str) -> None:
    """Check that a device may exist, by its name alone, not by looking at this machine.

    Raises:
        ConfigError: it is neither a real nor a simulated device.
    """
    card = name.removeprefix("sim:")
    if card == name:
        if name not in ("auto", "cpu", "cuda"):
            raise unknown_device(name)
        return
    profile = Path(card).expanduser()
    if card in CARDS or profile.exists():
        return
    if profile.suffix:
        raise ConfigError(f"there is no profile {profile}: make one with pagedbench calibrate")
    known = ", ".join(f"sim:{other}" for other in CARDS)
    raise ConfigError(
        f"unknown simulated device {name!r}: choose from {known}, or sim:FILE with a profile written by "
        "pagedbench calibrate"
    )


def unknown_device(name: str) -> ConfigError:
    """The error for the name of an unknown device."""
    return ConfigError(
        f"unknown device {name!r}: choose auto, cpu, cuda, or a simulated one such as sim:a100-40gb"
    )
