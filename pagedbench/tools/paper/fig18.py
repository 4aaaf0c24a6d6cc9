"""Fig. 18: what small and large blocks cost, in the kernel and end to end (paper, sections 7.1 and 7.2)."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pagedbench.show.charts import BarPanel, Bars, Chart
from pagedbench.tools.paper.block_sizes import BlockSizeFigure, Swept
from pagedbench.tools.paper.claim import Between, Claim
from pagedbench.tools.paper.experiment import Experiment
from pagedbench.tools.paper.figure import Outcome, Piece

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pagedbench.tools.paper.block_sizes import Latencies
    from pagedbench.tools.paper.figure import Options, Row

CONTEXTS, BATCHES = (64, 128, 256), (8, 32)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)

SMALL_BLOCKS = "that blocks below 16 are read more slowly is assumed, in proportion to their number"

SHAREGPT = Experiment("opt-13b", "sim:a100-40gb", "sharegpt", 900.0, rate=2.0, cost_model="vllm-2023")
ALPACA = replace(SHAREGPT, trace="alpaca", rate=30.1)
"""Alpaca's rate is the authors' script's; ShareGPT's is that of their Fig. 19b."""


def measure_kernels() -> list[dict[str, Any]]:
    """Decode attention on this machine, by `pagedbench kernels`: the rows of its JSON.

    Raises:
        RuntimeError: the command failed; with its message.
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
    """Fig. 18a, measured here."""

    name: str = "fig18a"
    title: str = "Fig. 18a: decode attention on this machine, paged against contiguous"
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
        machine = fingerprint()
        facts = [
            f"Measured on {machine.get('cpu', 'this machine')}; outputs were checked. Claim: the median."
        ]
        columns = (
            "kernels",
            "form",
            "dtype",
            "batch",
            "context",
            "block_size",
            "time_median_us",
            "over_contiguous",
        )
        table: list[Row] = [{name: row[name] for name in columns} for row in rows]
        return Outcome({"": table}, [claim], _kernel_chart(rows), facts)


def _kernel_chart(rows: Sequence[dict[str, Any]]) -> Chart:
    groups = [(batch, context) for batch in BATCHES for context in CONTEXTS]
    times = {(row["form"], row["batch"], row["context"]): row["time_median_us"] for row in rows}
    forms = tuple(dict.fromkeys(row["form"] for row in rows))
    bars = tuple(Bars(form, tuple(times.get((form, *group)) for group in groups)) for form in forms)
    names = tuple(f"{batch}\n{context}" for batch, context in groups)
    return Chart((BarPanel("Batch and context", "Kernel latency (us)", names, bars),))


def judge_block_sizes(latencies: Latencies) -> list[Claim]:
    """The stated ordering."""
    sharegpt, alpaca = latencies["ShareGPT"], latencies["Alpaca"]
    claims = []
    for name, by_size, low, high in (("ShareGPT", sharegpt, 16, 128), ("Alpaca", alpaca, 16, 32)):
        best = min(by_size, key=lambda size: by_size[size])
        words = f"{low} to {high}" if name == "ShareGPT" else "16 and 32"
        expected = Between(low, high, words)
        claims.append(
            Claim("fig18b", name, "best block size", "tokens", expected, float(best), SMALL_BLOCKS)
        )
    worse = alpaca[128] / min(alpaca[16], alpaca[32])
    claims.append(
        Claim(
            "fig18b", "Alpaca", "latency, 128 over 16 or 32", "x", Between(1.5, None, "much worse"), worse
        )
    )
    small = sharegpt[1] / min(sharegpt.values())
    claims.append(
        Claim(
            "fig18b",
            "ShareGPT",
            "latency, 1 over the best",
            "x",
            Between(1.1, None, "worse"),
            small,
            SMALL_BLOCKS,
        )
    )
    return claims


FIG18A = KernelFigure()
FIG18B = BlockSizeFigure(
    name="fig18b",
    title="Fig. 18b: normalized latency over the block size",
    lines=(Swept("ShareGPT", SHAREGPT), Swept("Alpaca", ALPACA)),
    sizes=SIZES,
    judge=judge_block_sizes,
)
