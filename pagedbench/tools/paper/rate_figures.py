"""Fig. 12, 14, 16 and 17: set-ups and claims of all panels of normalized latency over the request rate."""

from __future__ import annotations

from dataclasses import replace

from pagedbench.show.styles import SYSTEMS
from pagedbench.simulation.cards import VLLM_2023
from pagedbench.simulation.executor import BEST_PARENT_PROBABILITY
from pagedbench.tools.paper.claim import Between, Near, Tolerance
from pagedbench.tools.paper.experiment import Cut, Experiment, HostTimes
from pagedbench.tools.paper.lengths import MEAN_SOURCE, MEAN_TARGET
from pagedbench.tools.paper.rate_figure import Gain, RateFigure, Variant

# Fig. 12: basic sampling; three models, two data sets (section 6.2).

HOUR, QUARTER = 3600.0, 900.0
"""Seconds of arrivals: the paper's hour, and its quarter of an hour for OPT-175B. In a quarter of an hour,
Alpaca has more requests than ShareGPT in an hour; the authors' artifact replays ten minutes of it."""

OPT_13B = Experiment("opt-13b", "sim:a100-40gb", "sharegpt", HOUR, batch_size=5)
OPT_66B = Experiment("opt-66b", "sim:a100-40gb", "sharegpt", HOUR, batch_size=2)
OPT_175B = Experiment(
    "opt-175b", "sim:a100-80gb", "sharegpt", QUARTER, cost_model="vllm-2023", batch_size=24
)

ORACLE_RANGE = Between(1.7, 2.7, "1.7 to 2.7 (all three models)")
MAX_RANGE = Between(2.7, 8.0, "2.7 to 8 (all three models)")

STEP_175B = (
    "the step time is assumed (none is published): at its knee paged batches 2.0 times as many requests as "
    "Oracle, but its step takes 1.5 times as long; 40 ms more per step give 1.69, and 100 ms more (0.5 ms "
    "more per all-reduce) give 1.95"
)

STEP_175B_MAX = (
    "as for Oracle: Max batches up to 29 requests of this pool, so that its steps are short, and a longer "
    "step slows it the most"
)

NO_HOST = "no host time per request"
ROOFLINE = "the roofline and the host time of Fig. 13b"


def _alpaca(experiment: Experiment, batch_size: int) -> Experiment:
    """Its batches exceed those of published step times, so that the host's time per request counts."""
    return replace(
        experiment, trace="alpaca", duration=QUARTER, batch_size=batch_size, cost_model="vllm-2023"
    )


def _step_times(experiment: Experiment) -> tuple[Variant, ...]:
    """Assumptions about OPT-175B."""
    return (
        Variant(NO_HOST, replace(experiment, host=HostTimes(request=0.0))),
        Variant("40 ms more per step", replace(experiment, host=HostTimes(step=40e-3))),
        Variant("100 ms more per step, or 0.5 ms more per all-reduce",
                replace(experiment, host=HostTimes(step=0.1))),
    )  # fmt: skip


def _starts(*rates: float) -> dict[str, float]:
    """The rates at which the searches begin, near the authors' highest ones, in the paper's order."""
    return dict(zip(SYSTEMS, rates, strict=False))


ALPACA_13B = _alpaca(OPT_13B, 14)
BOTH = (Gain("orca-oracle", ORACLE_RANGE), Gain("orca-max", MAX_RANGE))

FIG12 = (
    RateFigure("fig12a", "Fig. 12a: OPT-13B, ShareGPT", OPT_13B, _starts(2.0, 1.2, 0.9, 0.7, 0.2), BOTH,
               (Variant(ROOFLINE, replace(OPT_13B, cost_model="vllm-2023")),)),
    RateFigure("fig12b", "Fig. 12b: OPT-66B, ShareGPT", OPT_66B, _starts(1.0, 0.5, 0.3, 0.25, 0.1), BOTH,
               (Variant(ROOFLINE, replace(OPT_66B, cost_model="vllm-2023")),)),
    RateFigure("fig12c", "Fig. 12c: OPT-175B, ShareGPT", OPT_175B, _starts(2.7, 2.0, 1.7, 1.0, 0.3),
               (Gain("orca-oracle", ORACLE_RANGE, STEP_175B), Gain("orca-max", MAX_RANGE, STEP_175B_MAX)),
               _step_times(OPT_175B)),
    RateFigure("fig12d", "Fig. 12d: OPT-13B, Alpaca", ALPACA_13B, _starts(33.0, 25.0, 18.0, 4.5, 2.0),
               (Gain("orca-oracle", Near(1.3, Tolerance(0.10, is_relative=True))),),
               (Variant(NO_HOST, replace(ALPACA_13B, host=HostTimes(request=0.0))),)),
    RateFigure("fig12e", "Fig. 12e: OPT-66B, Alpaca", _alpaca(OPT_66B, 8),
               _starts(18.0, 11.0, 7.0, 2.0, 1.5),
               (Gain("orca-oracle", Between(1.0, None, "similar trend: ahead of Oracle")),)),
    RateFigure("fig12f", "Fig. 12f: OPT-175B, Alpaca", _alpaca(OPT_175B, 80),
               _starts(20.0, 20.0, 17.0, 6.0, 4.0),
               (Gain("orca-oracle", Between(0.95, 1.3, "less pronounced than 1.3"), STEP_175B),
                Gain("orca-max", Between(2.0, None, "Max stays far below"), STEP_175B))),
)  # fmt: skip


# Fig. 14: OPT-13B on Alpaca, samples and beams (section 6.3).

TEN_MINUTES = Experiment("opt-13b", "sim:a100-40gb", "alpaca", 600.0, cost_model="vllm-2023")
"""Ten minutes of arrivals, as in the authors' artifact."""

BEAMS = replace(TEN_MINUTES, duration=300.0)
"""Five minutes: beams take longer to simulate, and reach a steady state soon."""

ABOVE_BASIC = Between(1.3, None, "above basic sampling's 1.3")
BEAM_6 = Near(2.3, Tolerance(0.20, is_relative=True))

ANCESTRY = (
    "Which beam continues which is sampled: each beam but the best is replaced by a copy of the best with "
    f"probability {BEST_PARENT_PROBABILITY:g} per step."
)


def _host_per_sequence(experiment: Experiment, width: int) -> tuple[Variant, ...]:
    """The host's time was fitted to requests with one sequence: what if it is spent on each sequence?"""
    host = HostTimes(request=width * VLLM_2023.request)
    words = f"{1e3 * VLLM_2023.request:g} ms of host time per sequence, not per request"
    return (Variant(words, replace(experiment, host=host)),)


SIX_SAMPLES, SIX_BEAMS = replace(TEN_MINUTES, n=6), replace(BEAMS, beam_width=6)

FIG14 = (
    RateFigure("fig14a", "Fig. 14a: OPT-13B, Alpaca, 2 samples", replace(TEN_MINUTES, n=2),
               _starts(20, 14, 12, 2.5), (Gain("orca-oracle", ABOVE_BASIC),)),
    RateFigure("fig14b", "Fig. 14b: OPT-13B, Alpaca, 4 samples", replace(TEN_MINUTES, n=4),
               _starts(12, 9, 6, 1), (Gain("orca-oracle", ABOVE_BASIC),)),
    RateFigure("fig14c", "Fig. 14c: OPT-13B, Alpaca, 6 samples", SIX_SAMPLES,
               _starts(9, 6, 4.5, 1), (Gain("orca-oracle", ABOVE_BASIC),),
               _host_per_sequence(SIX_SAMPLES, 6)),
    RateFigure("fig14d", "Fig. 14d: OPT-13B, Alpaca, beam width 2", replace(BEAMS, beam_width=2),
               _starts(19, 11, 9, 2), (Gain("orca-oracle", ABOVE_BASIC),), note=ANCESTRY),
    RateFigure("fig14e", "Fig. 14e: OPT-13B, Alpaca, beam width 4", replace(BEAMS, beam_width=4),
               _starts(11, 6, 4.5, 1), (Gain("orca-oracle", ABOVE_BASIC),), note=ANCESTRY),
    RateFigure("fig14f", "Fig. 14f: OPT-13B, Alpaca, beam width 6", SIX_BEAMS,
               _starts(8.5, 4.5, 3, 1), (Gain("orca-oracle", BEAM_6),),
               _host_per_sequence(SIX_BEAMS, 6), ANCESTRY),
)  # fmt: skip


# Fig. 16: LLaMA-13B translates with examples that all prompts share (section 6.4).

ONE_SHOT = Experiment("llama-13b", "sim:a100-40gb", "wmt16", 900.0, cost_model="vllm-2023", prefix_len=80)
FIVE_SHOT = replace(ONE_SHOT, prefix_len=341)

SIZE = Tolerance(0.35, is_relative=True)
"""The lengths are assumed, so only the order and the magnitude are judged."""

SHARED_BEGINNING = (
    f"Sentences of {MEAN_SOURCE:g} and translations of {MEAN_TARGET:g} tokens on average are assumed. "
    "Paged keeps whole blocks of the shared beginning, computed once; Orca computes and stores it for "
    "every request."
)
ASSUMED = "the lengths of WMT16's sentences are assumed"


def _other_lengths(experiment: Experiment) -> tuple[Variant, ...]:
    return tuple(
        Variant(f"{words} the lengths", replace(experiment, length_scale=scale))
        for words, scale in (("half", 0.5), ("twice", 2.0))
    )


FIG16 = (
    RateFigure("fig16a", "Fig. 16a: LLaMA-13B, one example of 80 tokens", ONE_SHOT,
               {"paged": 40.0, "orca-oracle": 30.0}, (Gain("orca-oracle", Near(1.67, SIZE), ASSUMED),),
               _other_lengths(ONE_SHOT), SHARED_BEGINNING),
    RateFigure("fig16b", "Fig. 16b: LLaMA-13B, five examples of 341 tokens", FIVE_SHOT,
               {"paged": 40.0, "orca-oracle": 13.0}, (Gain("orca-oracle", Near(3.58, SIZE), ASSUMED),),
               _other_lengths(FIVE_SHOT), SHARED_BEGINNING),
)  # fmt: skip


# Fig. 17: a chat bot; nothing is kept between the rounds of a conversation (section 6.5).

CUT = Cut(prompt_len=1024, output_len=1016)
"""The limits of the authors' chatbot benchmark (section 6.5, which says 1024 for the replies, too)."""

CHAT = Experiment("opt-13b", "sim:a100-40gb", "sharegpt-8k", 3600.0, cut=CUT)
TWICE = Near(2.0, Tolerance(0.25, is_relative=True))

ONE_MIX = replace(CHAT, new_share=0.1)
VLLMS_MIX = replace(CHAT, new_share=0.5)
"""The authors' benchmarks begin a new conversation, with a short prompt, with probability 0.5 for vLLM and
0.1 for Orca. Here every system gets the same rounds; the figure shows the results with theirs."""

MIXES = (
    "the authors' benchmarks begin new conversations, with short prompts, with probability 0.5 for vLLM "
    "and 0.1 for Orca: these mixes give 1.9 here, and 0.1 for both gives 1.4"
)

FIG17 = RateFigure(
    name="fig17",
    title="Fig. 17: OPT-13B, ShareGPT's conversations",
    experiment=CHAT,
    starts={"paged": 1.0, "orca-oracle": 0.6, "orca-pow2": 0.6, "orca-max": 0.6},
    gains=tuple(Gain(system, TWICE, MIXES) for system in ("orca-oracle", "orca-pow2", "orca-max")),
    variants=(
        Variant("new conversations with probability 0.1", ONE_MIX),
        Variant("new conversations with probability 0.5 for paged, 0.1 for Orca", VLLMS_MIX, ONE_MIX),
    ),
    note=(
        "Each round is a separate request: its prompt is the last 1,024 tokens of the conversation, its "
        "reply at most 1,016. The three Orcas come together because most requests need a chunk of 2,048."
    ),
)
