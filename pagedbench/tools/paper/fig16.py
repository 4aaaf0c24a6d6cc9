"""Fig. 16: LLaMA-13B translates with examples that all prompts share, English to German (section 6.4)."""

from __future__ import annotations

from dataclasses import replace

from pagedbench.tools.paper.claim import Near, Tolerance
from pagedbench.tools.paper.experiment import Experiment
from pagedbench.tools.paper.lengths import MEAN_SOURCE, MEAN_TARGET
from pagedbench.tools.paper.rate_figure import Gain, RateFigure, Variant

ONE_SHOT = Experiment("llama-13b", "sim:a100-40gb", "wmt16", 900.0, cost_model="vllm-2023", prefix_len=80)
FIVE_SHOT = replace(ONE_SHOT, prefix_len=341)

SIZE = Tolerance(0.35, is_relative=True)
"""The lengths are assumed: the order and the size are judged."""

NOTE = (
    f"Sentences of {MEAN_SOURCE:g} and translations of {MEAN_TARGET:g} tokens on average are assumed. "
    "Paged keeps whole blocks of the shared beginning, computed once; Orca computes and stores it for "
    "every request."
)
ASSUMED = "the lengths of WMT16's sentences are assumed"


def _variants(experiment: Experiment) -> tuple[Variant, ...]:
    return tuple(
        Variant(f"{words} the lengths", replace(experiment, length_scale=scale))
        for words, scale in (("half", 0.5), ("twice", 2.0))
    )


FIGURES = (
    RateFigure("fig16a", "Fig. 16a: LLaMA-13B, one example of 80 tokens", ONE_SHOT,
               {"paged": 40.0, "orca-oracle": 30.0}, (Gain("orca-oracle", Near(1.67, SIZE), ASSUMED),),
               _variants(ONE_SHOT), NOTE),
    RateFigure("fig16b", "Fig. 16b: LLaMA-13B, five examples of 341 tokens", FIVE_SHOT,
               {"paged": 40.0, "orca-oracle": 13.0}, (Gain("orca-oracle", Near(3.58, SIZE), ASSUMED),),
               _variants(FIVE_SHOT), NOTE),
)  # fmt: skip
