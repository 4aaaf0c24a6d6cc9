"""Fig. 18: the costs of small and large blocks, in the kernel and end to end (sections 7.1 and 7.2)."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pagedbench.show.charts import Axis, BarPanel, Chart, bars_of
from pagedbench.tools.paper.block_sizes import BlockSizeFigure
from pagedbench.tools.paper.claim import Between, Claim
from pagedbench.tools.paper.experiment import Experiment
from pagedbench.tools.paper.figure import Outcome, Piece

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagedbench.tools.paper.block_sizes import Latencies
    from pagedbench.tools.paper.figure import Options, Row

CONTEXTS, BATCHES = (64, 128, 256), (8, 32)
COLUMNS = ("kernels", "form", "dtype", "batch", "context", "block_size", "time_median_us",
           "over_contiguous")  # fmt: skip
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

SMALL_BLOCKS = "that blocks below 16 are read more slowly is assumed, in proportion to their number"

SHAREGPT = Experiment("opt-13b", "sim:a100-40gb", "sharegpt", 900.0, rate=2.0, cost_model="vllm-2023")
ALPACA = replace(SHAREGPT, trace="alpaca", rate=30.1)
"""Alpaca's rate is from the authors' script, ShareGPT's from their Fig. 19b."""


def measure_kernels() -> list[dict[str, Any]]:
    """Decode attention on this machine: the JSON rows of `pagedbench kernels`.

    Raises:
        RuntimeError: the command failed, with its message.
    """
    numbers = [",".join(map(str, values)) for values in (CONTEXTS, BATCHES)]
    command = [sys.executable, "-m", "pagedbench", "kernels", "--op", "decode", "--context", numbers[0],
               "--batch", numbers[1], "--block-size", "16", "--format", "json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"pagedbench kernels failed: {done.stderr.strip()}")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    if all(row["over_contiguous"] is None for row in rows):
        raise RuntimeError("other programs disturbed every measurement: repeat it on an idle machine")
    return [row for row in rows if row["kernels"] != "torch"]


@dataclass(frozen=True, slots=True)
class KernelFigure:
    """Fig. 18a, measured on this machine."""

    name: str = "fig18a"
    title: str = "Fig. 18a: decode attention on this machine, paged vs contiguous"
    traces: tuple[str, ...] = ()

    def pieces(self, options: Options) -> Sequence[Piece]:
        return [Piece("kernels", measure_kernels, (), is_measured=True)]

    def outcome(self, options: Options, results: Mapping[str, list[dict[str, Any]]]) -> Outcome:
        from pagedbench.runs.machine import fingerprint

        rows = results["kernels"]
        ratios = [row["over_contiguous"] for row in rows if row["over_contiguous"] is not None]
        claim = Claim(
            self.name, "paged / contiguous", "latency", "x", Between(1.2, 1.26, "1.20 to 1.26 on an A100"),
            statistics.median(ratios), "another machine and other kernels: these are this project's own",
            (min(ratios), max(ratios)),
        )  # fmt: skip
        cpu = fingerprint().get("cpu", "this machine")
        facts = [f"Measured on {cpu}; outputs were checked. Claim: the median."]
        table: list[Row] = [{name: row[name] for name in COLUMNS} for row in rows]
        return Outcome({"": table}, [claim], _kernel_chart(rows), facts)


def _kernel_chart(rows: Sequence[dict[str, Any]]) -> Chart:
    groups = tuple(f"{batch}\n{context}" for batch in BATCHES for context in CONTEXTS)
    named = [
        {**row, "group": f"{row['batch']}\n{row['context']}", "kernel": f"{row['form']} kernel"}
        for row in rows
    ]
    named.sort(key=lambda row: groups.index(row["group"]))
    bars = bars_of(named, "group", "time_median_us", "kernel")
    present = tuple(dict.fromkeys(row["group"] for row in named))
    axis = Axis("Kernel latency (us)")
    return Chart((BarPanel("", axis, present, bars, x_label="Batch size and context"),))


def judge_block_sizes(latencies: Latencies) -> list[Claim]:
    """The order that the paper states."""
    sharegpt, alpaca = latencies["ShareGPT"], latencies["Alpaca"]
    best = {name: float(min(own, key=own.__getitem__)) for name, own in latencies.items()}
    worse = alpaca[128] / min(alpaca[16], alpaca[32])
    small = sharegpt[1] / min(sharegpt.values())
    return [
        Claim("fig18b", "ShareGPT", "best block size", "tokens", Between(16, 128, "16 to 128"),
              best["ShareGPT"], SMALL_BLOCKS),
        Claim("fig18b", "Alpaca", "best block size", "tokens", Between(16, 32, "16 and 32"),
              best["Alpaca"], SMALL_BLOCKS),
        Claim("fig18b", "Alpaca", "latency, 128 over 16 or 32", "x", Between(1.5, None, "much worse"),
              worse),
        Claim("fig18b", "ShareGPT", "latency, 1 over the best", "x", Between(1.1, None, "worse"), small,
              SMALL_BLOCKS),
    ]  # fmt: skip


FIGURES = (
    KernelFigure(),
    BlockSizeFigure("fig18b", "Fig. 18b: normalized latency over the block size",
                    {"ShareGPT": SHAREGPT, "Alpaca": ALPACA}, SIZES, judge_block_sizes),
)  # fmt: skip
