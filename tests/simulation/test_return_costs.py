"""What a cost model says of preempted groups, and the mode and the victim that follow from it."""

from __future__ import annotations

import itertools

import pytest

from pagedbench.memory.paged import Paged
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.batch import PreemptionMode
from pagedbench.scheduling.iteration_level import IterationLevel
from pagedbench.scheduling.return_modes import RETURN_MODES
from pagedbench.scheduling.samples import Samples
from pagedbench.scheduling.scheduler import Limits
from pagedbench.scheduling.victims import VICTIMS
from pagedbench.simulation.cards import CARDS
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.simulation.return_costs import SimulatedCosts
from pagedbench.simulation.step_times import step_times_of


def costs_of(cost_model, block_size=16):
    times = step_times_of(
        cost_model, BUILT_IN_SHAPES["opt-13b"], CARDS["a100-40gb"], 1, "paged", block_size=block_size
    )
    return SimulatedCosts(times, block_size)


class Stated:
    """Seconds a token, as somebody states them."""

    def __init__(self, recompute, swap):
        self.recompute_time = lambda num_tokens: recompute * num_tokens
        self.swap_time = lambda num_slots: swap * num_slots


@pytest.mark.parametrize("cost_model", ["modern", "vllm-2023", "published", "roofline"])
def test_more_tokens_cost_more(cost_model):
    costs = costs_of(cost_model)
    for price in (costs.recompute_time, costs.swap_time):
        prices = [price(number) for number in (1, 100, 500, 1000, 2000)]
        assert prices == sorted(prices)
        assert prices[-1] > 10 * max(prices[0], 1e-6)
        assert price(500) == prices[2]  # asked again


def test_a_prompt_costs_what_published_steps_say():
    """0.1405 ms a prompt token, beside an iteration that takes place anyway."""
    assert costs_of("published").recompute_time(1001) == pytest.approx(0.1405)


def test_a_swap_goes_out_and_back():
    """Bytes over the bus, twice, beside what starting the transfers takes."""
    card, shape = CARDS["a100-40gb"], BUILT_IN_SHAPES["opt-13b"]
    size = 1600 * shape.kv_bytes_per_token(2)
    costs = costs_of("published")
    assert costs.swap_time(1600) > 2 * size / card.bus
    assert costs.swap_time(1599) == costs.swap_time(1600)  # whole blocks are moved


def batch_of_preemptions(costs, preemption, victim, lengths=((40, 9), (8, 9), (40, 9))):
    """The first iterations of requests (prompt, output) in a pool that runs full."""
    memory = Paged(100, 4, 60)
    limits = Limits(preemption=preemption, victim=VICTIMS[victim](), costs=costs)
    scheduler = IterationLevel(memory, limits)
    for index, (prompt_len, output_len) in enumerate(lengths):
        scheduler.add(Request(index, 0.0, Prompt(prompt_len, index), SamplingParams(output_len)))
    for _ in range(12):
        batch = scheduler.schedule()
        scheduler.update(batch, Samples())
        if batch.preemptions:
            return batch.preemptions
    raise AssertionError("nobody was preempted")


@pytest.mark.parametrize(
    ("recompute", "swap", "mode"),
    [(1.0, 2.0, PreemptionMode.RECOMPUTE), (2.0, 1.0, PreemptionMode.SWAP)],
)
def test_the_cheaper_way_back(recompute, swap, mode):
    (preemption, *_) = batch_of_preemptions(Stated(recompute, swap), "cheapest", "latest")
    assert preemption.mode is mode


def test_without_costs_tokens_are_computed_again():
    assert set(RETURN_MODES) == {"auto", "recompute", "swap", "cheapest"}
    (preemption, *_) = batch_of_preemptions(Limits().costs, "cheapest", "latest")
    assert preemption.mode is PreemptionMode.RECOMPUTE


def test_the_cheapest_victim_is_that_of_its_mode():
    """Quadratic costs of long prompts make the short one the cheapest a slot; flat ones do not."""

    class Quadratic(Stated):
        def __init__(self):
            super().__init__(0.0, 0.0)
            self.recompute_time = lambda num_tokens: num_tokens**2

    class Flat(Stated):
        def __init__(self):
            super().__init__(0.0, 0.0)
            self.recompute_time = lambda num_tokens: 1.0

    chosen = {}
    for name, costs in {"quadratic": Quadratic(), "flat": Flat()}.items():
        (preemption, *_) = batch_of_preemptions(costs, "recompute", "cheapest")
        chosen[name] = preemption.victim.request.request_id
    assert chosen == {"quadratic": 1, "flat": 2}


def test_equal_questions_have_equal_answers():
    one, other = costs_of("modern"), costs_of("modern")
    sizes = [700, 3, 700, 55]
    for price, again in itertools.product(("recompute_time", "swap_time"), (one, other)):
        assert [getattr(again, price)(size) for size in sizes] == [getattr(one, price)(s) for s in sizes]
