"""Fig. 17: a chat bot, OPT-13B on ShareGPT's conversations, nothing kept between rounds (section 6.5)."""

from __future__ import annotations

from dataclasses import replace

from pagedbench.tools.paper.claim import Near, Tolerance
from pagedbench.tools.paper.experiment import Cut, Experiment
from pagedbench.tools.paper.rate_figure import Gain, RateFigure, Variant

CUT = Cut(prompt_len=1024, output_len=1016)
"""The limits of the authors' chatbot benchmark (section 6.5, which says 1024 of the replies, too)."""

CHAT = Experiment("opt-13b", "sim:a100-40gb", "sharegpt-8k", 3600.0, cut=CUT)
TWICE = Near(2.0, Tolerance(0.25, is_relative=True))

ONE_MIX = replace(CHAT, new_share=0.1)
VLLMS_MIX = replace(CHAT, new_share=0.5)
"""The authors' benchmarks begin a new conversation, with a short prompt, with probability 0.5 for vLLM and
0.1 for Orca. Here every system gets the same rounds; the figure shows what theirs would give."""

MIXES = (
    "the authors' benchmarks begin new conversations, with short prompts, with probability 0.5 for vLLM "
    "and 0.1 for Orca: these mixes give 1.9 here, and 0.1 for both gives 1.4"
)

FIGURE = RateFigure(
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
        "Each round is a request of its own: its prompt is the last 1,024 tokens of the conversation, its "
        "reply at most 1,016. The three Orcas come together because most requests need a chunk of 2,048."
    ),
)
