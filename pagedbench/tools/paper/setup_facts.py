"""What a figure was computed with, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.tools.paper.lengths import FROM_FILES, TRANSLATION

if TYPE_CHECKING:
    from pagedbench.tools.paper.experiment import Experiment
    from pagedbench.tools.paper.figure import Options


def setup_facts(experiment: Experiment, system: str, options: Options) -> list[str]:
    """The simulated machine, the step times, the limits and the lengths of one set-up."""
    plan = experiment.plan(system)
    limits = (
        "2048 sequences for paged and 256 for the others, as the authors had it"
        if options.max_num_seqs is None
        else f"{options.max_num_seqs} sequences for every system"
    )
    facts = [
        f"Simulated: {plan.shape.name} on {plan.device_name}, {plan.num_blocks:,} blocks of "
        f"{plan.config.block_size}; at most {limits}.",
        f"Step times: {plan.cost_model}.",
    ]
    if plan.attention_cost is not None:
        facts.append(f"Attention: {plan.attention_cost}.")
    if experiment.trace in FROM_FILES:
        facts.append(f"Lengths: {options.lengths.source(experiment.trace)}.".replace("..", "."))
        if options.lengths.are_drawn(experiment.trace):
            facts.append("Drawn lengths give the paper's picture, not every digit; --trace takes its own.")
    elif experiment.trace == TRANSLATION:
        facts.append("Lengths: assumed, because the paper prints none (see paper/lengths.py).")
    return facts
