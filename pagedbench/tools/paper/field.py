"""Measurements by others of policies under memory pressure, as figures with claims: theirs, ours, why."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pagedbench.show.charts import Axis, BarPanel, Chart, Series
from pagedbench.tools.paper.claim import Between, Claim, Near, Tolerance
from pagedbench.tools.paper.field_setup import Setup, figures_of
from pagedbench.tools.paper.figure import Outcome, Piece

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pagedbench.tools.paper.figure import Options, Row

    Figures = Mapping[str, Mapping[str, float]]
    """Means over the seeds: set-up -> figure -> value."""

SEEDS = 3
"""Seeds per set-up; `--seeds` may ask for fewer or more."""


@dataclass(frozen=True, slots=True)
class FieldFigure:
    """Set-ups by name, the figures that are shown, and the claims.

    Attributes:
        shown: figures of the CSV; the first is also that of the picture.
        source: who measured what, on which hardware, and how ours differs.
    """

    name: str
    title: str
    setups: Mapping[str, Setup]
    shown: tuple[str, ...]
    judge: Callable[[Figures], list[Claim]]
    source: str
    traces: tuple[str, ...] = ()

    def pieces(self, options: Options) -> Sequence[Piece]:
        return [
            Piece(f"{name} s{seed}", figures_of, (setup, seed))
            for name, setup in self.setups.items()
            for seed in _seeds(options)
        ]

    def outcome(self, options: Options, results: Mapping[str, Any]) -> Outcome:
        seeds = _seeds(options)
        rows: list[Row] = [
            {"setup": name, "seed": seed, **results[f"{name} s{seed}"]}
            for name in self.setups
            for seed in seeds
        ]
        means = {
            name: {
                key: fmean(float(results[f"{name} s{seed}"][key]) for seed in seeds)
                for key, value in results[f"{name} s{seeds[0]}"].items()
                if value is not None
            }
            for name in self.setups
        }
        first = next(iter(self.setups.values()))
        facts = [
            self.source,
            f"Ours: simulated {first.model} on {first.tensor_parallel_size} x "
            f"{first.device.removeprefix('sim:').upper()}; means over the seeds "
            f"{', '.join(map(str, seeds))}.",
        ]
        return Outcome({"": rows}, self.judge(means), self._chart(means), facts)

    def _chart(self, means: Figures) -> Chart:
        groups = tuple(name.replace(", ", "\n") for name in self.setups)
        panels = (
            BarPanel("", Axis(key.replace("_", " ")), groups,
                     (Series("", tuple(means[name].get(key) for name in self.setups)),))
            for key in self.shown
        )  # fmt: skip
        return Chart(tuple(panels), panel_width=max(4.2, 0.6 * len(groups)))


def _seeds(options: Options) -> tuple[int, ...]:
    return options.seeds[:SEEDS] if options.num_seeds >= SEEDS else options.seeds


def _claim(
    figure: str,
    subject: str,
    quantity: str,
    unit: str,
    expected: Near | Between,
    ours: float,
    why: str = "",
) -> Claim:
    return Claim(figure, subject, quantity, unit, expected, ours, why)


# 1.1 Watermark

CLOSED = Setup(
    "llama-3.1-8b", "sim:h100", num_requests=450, prompt=1000, output=5000, spread=0.2, clients=128,
    kv_slots=299_584,
)  # fmt: skip
WATERMARKS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15)


def _judge_watermark(means: Figures) -> list[Claim]:
    number = {w: means[f"watermark {w:g}"]["preemptions"] for w in WATERMARKS}
    speed = {w: means[f"watermark {w:g}"]["output_throughput"] for w in WATERMARKS}
    gap = {w: means[f"watermark {w:g}"]["itl_p99_ms"] for w in WATERMARKS}
    best = max(speed, key=lambda w: speed[w])
    return [
        _claim("watermark", "preemptions", "at 0 over at 0.05", "x", Between(4.0, None, "5.7 x"),
               number[0.0] / number[0.05]),
        _claim("watermark", "preemptions", "at 0.10 over at 0.15", "x", Between(0.9, 1.25, "1.00 x"),
               number[0.1] / number[0.15]),
        _claim("watermark", "throughput", "watermark of its maximum", "", Between(0.02, 0.1, "0.05"), best),
        _claim("watermark", "throughput", "at 0.05 over at 0", "x", Near(1.051, Tolerance(0.03)),
               speed[0.05] / speed[0.0]),
        _claim("watermark", "ITL p99", "at 0.05 over at 0", "x", Between(None, 0.9, "0.44 x"),
               gap[0.05] / gap[0.0]),
    ]  # fmt: skip


WATERMARK = FieldFigure(
    "watermark",
    "Watermark: preemptions, throughput and gaps between tokens (vllm-project/vllm#44594)",
    {f"watermark {value:g}": replace(CLOSED, watermark=value) for value in WATERMARKS},
    ("preemptions", "output_throughput", "itl_p99_ms"),
    _judge_watermark,
    "Theirs: Qwen2.5-7B on one GB200, the same pool, lengths, number of requests and of clients.",
)

# 1.2 Victims

OFFLINE = Setup(
    "opt-125m", "sim:a100-40gb", num_requests=300, prompt=320, output=160, spread=0.5, max_model_len=2048
)
RULES = ("least-computed", "latest", "random", "most-computed")
POOLS = {0.4: (32.2, -59), 0.2: (57.9, -40), 0.1: (78.8, -43)}
"""Share of the demand -> their tax with the latest arrival, and the change of wasted tokens, in percent.

Their pools are 38, 19 and 9.5 % of the demand.
"""


def _judge_victims(means: Figures) -> list[Claim]:
    claims = []
    for share, (tax, saving) in POOLS.items():
        wasted = {rule: means[f"{rule}, {share:.0%}"]["recomputed_tokens"] for rule in RULES}
        number = {rule: means[f"{rule}, {share:.0%}"]["preemptions"] for rule in RULES}
        steps = [wasted[after] / wasted[before] for before, after in itertools.pairwise(RULES)]
        more = number["least-computed"] / number["latest"]
        where = f"pool of {share:.0%}"
        claims += [
            _claim("victims", where, "least ratio of a rule to the one before it", "x",
                   Between(1.0, None, "least-computed, latest, random, most-computed"), min(steps)),
            _claim("victims", where, "recompute tax of latest", "%", Near(tax, Tolerance(10.0)),
                   means[f"latest, {share:.0%}"]["recompute_tax_pct"],
                   "their lengths are not published; what they preempted held 415 tokens, more than here"),
            _claim("victims", where, "wasted tokens, least-computed instead", "%",
                   Near(saving, Tolerance(10.0)), 100 * (wasted["least-computed"] / wasted["latest"] - 1),
                   f"a victim with less computed frees less, so there are {more:.2f} x as many; in their "
                   "measurement there are not"),
        ]  # fmt: skip
    return claims


VICTIMS = FieldFigure(
    "victims",
    "Victims of preemption: tokens computed again (vllm-project/vllm#54644)",
    {
        f"{rule}, {share:.0%}": replace(OFFLINE, victim=rule, kv_slots=int(share * OFFLINE.demand))
        for share in POOLS
        for rule in RULES
    },
    ("recomputed_tokens", "recompute_tax_pct"),
    _judge_victims,
    "Theirs: a model of 0.5B, 300 requests at once, pools of 1600, 800 and 400 blocks of 4200 in demand. "
    "Ours have prompts of 320 and replies of 160 tokens, uniform within 50 %; with replies as long as "
    "prompts, least-computed does not win at every pool.",
)

# 1.3 Admission

BURST = Setup(
    "llama-3.1-70b", "sim:h200", num_requests=128, prompt=2048, output=512, tensor_parallel_size=2
)
SHARES = (0.4, 0.7, 1.2)
LONG = replace(
    CLOSED, num_requests=8, prompt=100_000, output=4000, spread=0.0, clients=None, kv_slots=430_000,
    max_model_len=131_072, max_num_batched_tokens=2048,
)  # fmt: skip


def _judge_admission(means: Figures) -> list[Claim]:
    def ratio(key: str, share: float) -> float:
        return means[f"prompt-first-chunk, {share:.0%}"][key] / means[f"reserve, {share:.0%}"][key]

    why = (
        "with prompts of 2,048 tokens on two H200, computing them again is cheap; what else theirs loses "
        "is not published"
    )
    long = (
        means["prompt-first-chunk, long"]["output_throughput"]
        / means["watermark, long"]["output_throughput"]
    )
    return [
        _claim("admission", "off pressure", "throughput, first chunk over reserve", "x",
               Near(1.0, Tolerance(0.02)), ratio("output_throughput", 1.2)),
        _claim("admission", "pool of 40%", "throughput, first chunk over reserve", "x",
               Near(96.2 / 161.0, Tolerance(0.1)), ratio("output_throughput", 0.4), why),
        _claim("admission", "pool of 40%", "TPOT p99, first chunk over reserve", "x",
               Between(1.2, None, "9.1 x"), ratio("tpot_p99_ms", 0.4)),
        _claim("admission", "pool of 40%", "TTFT p50, first chunk over reserve", "x",
               Between(None, 1.0, "0.76 x"), ratio("ttft_p50_ms", 0.4),
               "prompts that are computed again delay the first tokens of others"),
        _claim("admission", "prompts of 100k", "throughput, first chunk over whole prompts", "x",
               Between(None, 0.5, "0.015 x (100 to 1.5 tokens/s)"), long,
               "here a prompt without room waits for those that decode, and is preempted only when they "
               "need its blocks; theirs was begun again and again"),
    ]  # fmt: skip


ADMISSION = FieldFigure(
    "admission",
    "Admission: requests sure to finish vs requests that fit (NVIDIA/TensorRT-LLM#16827, vllm#37307)",
    {
        f"{rule}, {share:.0%}": replace(BURST, admission=rule, kv_slots=int(share * BURST.demand))
        for share in SHARES
        for rule in ("reserve", "prompt-first-chunk")
    }
    | {f"{rule}, long": replace(LONG, admission=rule) for rule in ("watermark", "prompt-first-chunk")},
    ("output_throughput", "preemptions", "tpot_p99_ms"),
    _judge_admission,
    "Theirs: Llama-3.3-70B on H200, 128 requests of 512 output tokens; prompts and pool are not published. "
    "And prompts of 100,000 tokens, of which four fit.",
)

# 1.4 Chunked prefill

MIXED = Setup(
    "llama-2-7b", "sim:h100", num_requests=1500, prompt=72, output=160, spread=0.6, rate=8.0,
    long_share=0.2, max_model_len=4096, prefill="mixed", max_num_batched_tokens=2560,
)  # fmt: skip
CHUNKS = replace(MIXED, prefill="chunked", max_num_batched_tokens=2048, prefill_chunk_size=256)


def _judge_chunks(means: Figures) -> list[Claim]:
    whole, chunks = means["whole prompts"], means["chunks of 256"]

    def change(key: str) -> float:
        return 100 * (chunks[key] / whole[key] - 1)

    return [
        _claim("chunked-prefill", "short prompts", "TTFT p99", "%",
               Between(-65.0, -40.0, "-46 to -58 %"), change("short_ttft_p99_ms")),
        _claim("chunked-prefill", "prompts of 2048", "TTFT p99", "%",
               Between(40.0, 90.0, "+60 to +69 %"), change("long_ttft_p99_ms")),
        _claim("chunked-prefill", "all", "median gap between tokens", "%",
               Near(0.0, Tolerance(5.0)), change("itl_p50_ms")),
        _claim("chunked-prefill", "all", "longest gap between tokens", "%",
               Between(None, -50.0, "a tail bound (Sarathi)"), change("itl_max_ms")),
        _claim("chunked-prefill", "all", "output tokens/s", "%",
               Between(-5.0, None, "at no loss"), change("output_throughput")),
    ]  # fmt: skip


CHUNKED = FieldFigure(
    "chunked-prefill",
    "Chunked prefill: short requests among prompts of 2,048 tokens (inference-sim/inference-sim#433)",
    {"whole prompts": MIXED, "chunks of 256": CHUNKS},
    ("short_ttft_p99_ms", "long_ttft_p99_ms", "itl_p999_ms"),
    _judge_chunks,
    "Theirs: a simulator; at most 256 tokens of one prompt in an iteration. One request of five has a "
    "prompt of 2,048 tokens; the rate is ours.",
)

FIGURES = (WATERMARK, VICTIMS, ADMISSION, CHUNKED)
