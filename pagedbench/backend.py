"""Backend: the expensive half of an engine (weights, pool, kernels), loaded once and shared by systems."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pagedbench.clock import WallClock
from pagedbench.engine import Engine
from pagedbench.memory.layer_group import has_windows
from pagedbench.memory.moves import Pool
from pagedbench.plan import memory_of
from pagedbench.pool import NO_TIERS
from pagedbench.prompt import Prompt
from pagedbench.request import Request, SamplingParams
from pagedbench.scheduling.return_modes import CountedTokens
from pagedbench.simulation.disk import SimulatedDisk
from pagedbench.simulation.executor import Simulated
from pagedbench.simulation.page_costs import PageCosts, page_cost_of
from pagedbench.simulation.return_costs import SimulatedCosts
from pagedbench.simulation.step_times import decode_times_of
from pagedbench.simulation.twin import clock_of
from pagedbench.systems import build_scheduler
from pagedbench.workload.arrivals import FixedArrivals

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Items

    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.execution.model_runner import PoolLayout, Runner
    from pagedbench.execution.parallel.layout import RankLayout
    from pagedbench.execution.parallel.leader import Leader
    from pagedbench.execution.parallel.part import Part
    from pagedbench.memory.disk import Disk
    from pagedbench.memory.manager import KVManager
    from pagedbench.models.loader import LoadedModel
    from pagedbench.ops.interface import Ops
    from pagedbench.plan import Plan
    from pagedbench.scheduling.batch import Batch
    from pagedbench.scheduling.return_modes import ReturnCosts

CHEAPEST = "cheapest"
"""The policies of `--preemption` and `--victim` that need costs; costs are measured only for these."""

COST_PROMPT_LEN = 256
WARMUP_PROMPT_LEN, WARMUP_OUTPUT_LEN = 8, 32


class Backend(Protocol):
    """Builds engines for plans that differ only in their system."""

    @property
    def is_usable(self) -> bool:
        """Can it build more engines? Not after it has lost a process."""
        ...

    def make_engine(
        self,
        plan: Plan,
        *,
        prefixes: Items[Prompt] = (),
        requests: Items[Request] = (),
        save_logprobs: bool = False,
    ) -> Engine:
        """A fresh engine.

        Args:
            prefixes: prefixes that the prompts of its trace share.
            requests: those of its trace, for policies that see the future.
        """
        ...

    def warm_up(self, plan: Plan, num_tokens: int = 0) -> float | None:
        """Touch memory for these tokens, and run the warm-up. Output tokens/s; None if nothing ran."""
        ...


def load_backend(plan: Plan) -> Backend:
    """Load the model and the pool that the plan needs.

    Raises:
        ConfigError: the model cannot be loaded, or the pool does not fit the device.
    """
    if plan.step_times is not None:
        return SimulatedBackend()
    from pagedbench.execution.kv_cache import KVCache
    from pagedbench.models.loader import load_model
    from pagedbench.ops.device import dtype_of
    from pagedbench.ops.select import select_ops

    config, dtype = plan.config, dtype_of(plan.config.dtype)
    if plan.ranks is not None:
        return _shared_backend(plan, plan.ranks)
    ops = select_ops(config.device, config.kernels, dtype)
    loaded = load_model(
        config.model,
        load_format=config.load_format,
        dtype=dtype,
        device=config.device,
        seed=config.seed,
        ops=ops,
    )
    kv_dtype = dtype if config.kv_dtype == "auto" else dtype_of(config.kv_dtype)
    return ModelBackend(loaded, KVCache(plan.shape, plan.kv_slots, kv_dtype, config.device), ops)


def _shared_backend(plan: Plan, ranks: RankLayout) -> SharedBackend:
    """A backend of several ranks; their processes start now."""
    from pagedbench.execution.parallel.launch import ranks_of
    from pagedbench.execution.parallel.messages import Load

    config = plan.config
    load = Load(
        config.model,
        config.load_format,
        config.dtype,
        config.dtype if config.kv_dtype == "auto" else config.kv_dtype,
        config.device,
        config.kernels,
        plan.kv_slots,
        config.seed,
    )
    leader = ranks_of(ranks).leader
    return SharedBackend(leader, leader.load(load))


def _memory(plan: Plan, prefixes: Items[Prompt]) -> KVManager:
    """An empty pool, with room pinned for shared prefixes."""
    memory = memory_of(plan)
    for prefix in prefixes:
        memory.register_prefix(prefix)
    return memory


def _attached(disk: Disk | None, memory: KVManager) -> Disk | None:
    """The disk, which the manager's tiers use from now on."""
    if disk is not None and memory.tiers is not None:
        memory.tiers.disk = disk
    return disk


def _step_time(plan: Plan, memory: KVManager) -> Callable[[Batch], float]:
    """The seconds of a simulated batch, including those that its pages take."""
    assert plan.step_times is not None, "the plan is not simulated"
    step_time = plan.step_times.step_time
    if memory.pages is None:
        return step_time
    cost = page_cost_of(plan.config.device, memory.pages.spec.page_bytes)
    return PageCosts(step_time, cost, 2 * plan.shape.num_layers, memory.pages.counts).step_time


class SimulatedBackend:
    """Runs in virtual time with known lengths; nothing is loaded."""

    is_usable = True

    def make_engine(
        self,
        plan: Plan,
        *,
        prefixes: Items[Prompt] = (),
        requests: Items[Request] = (),
        save_logprobs: bool = False,
        horizon: float = math.inf,
    ) -> Engine:
        """A fresh engine. Nothing is sampled, so there are no log-probabilities to save."""
        assert plan.step_times is not None, "the plan is not simulated"
        memory = _memory(plan, prefixes)
        memory.foresee(requests)
        executor = Simulated(plan.config.seed)
        times = _step_time(plan, memory), decode_times_of(plan.step_times)
        clock = clock_of(plan.twin, *times, plan.config.seed)
        costs = SimulatedCosts(plan.step_times, plan.config.block_size)
        scheduler = build_scheduler(plan.config, memory, costs)
        disk = SimulatedDisk(clock, plan.slot_bytes) if plan.tier_slots.disk else None
        return Engine(scheduler, memory, executor, clock, disk=_attached(disk, memory), horizon=horizon)

    def warm_up(self, plan: Plan, num_tokens: int = 0) -> float | None:
        return None


class ModelBackend:
    """Runs a model with its KV pool on a real device."""

    def __init__(self, loaded: LoadedModel, cache: KVCache, ops: Ops) -> None:
        from pagedbench.execution.cuda_graphs import decode_graphs
        from pagedbench.execution.pools import Pools

        self.loaded = loaded
        self.cache = cache
        self.ops = ops
        self.graphs = decode_graphs(loaded.model, cache, ops)
        self._costs: ReturnCosts = CountedTokens()
        self._pools = Pools(loaded.shape, cache)

    @property
    def is_usable(self) -> bool:
        return True

    def make_engine(
        self,
        plan: Plan,
        *,
        prefixes: Items[Prompt] = (),
        requests: Items[Request] = (),
        save_logprobs: bool = False,
    ) -> Engine:
        """A fresh engine over the shared weights and pool. On a real device the future is unknown."""
        from pagedbench.execution.input_builder import InputBuilder
        from pagedbench.execution.model_runner import ModelExecutor, PoolLayout

        memory = _memory(plan, prefixes)
        layout = PoolLayout.of(memory, save_logprobs=save_logprobs)
        num_disk_slots = plan.in_slots(plan.tier_slots.disk)
        runner, disk = self._runner(layout, num_disk_slots, plan.config.disk_cache_dir)
        is_apart = self.cache.device.type != "cpu"
        builder = InputBuilder(memory, self.loaded.shape.vocab_size, pin_memory=is_apart)
        executor, scheduler = ModelExecutor(builder, runner), build_scheduler(plan.config, memory, self)
        return Engine(scheduler, memory, executor, WallClock(), disk=_attached(disk, memory))

    def _runner(
        self, layout: PoolLayout, num_disk_slots: int, folder: str | None
    ) -> tuple[Runner, Disk | None]:
        """What an engine runs on: the model over the pool, and the file of evicted blocks, if any."""
        from pagedbench.execution.disk_file import DiskFile
        from pagedbench.execution.model_runner import ModelRunner

        cache = self._pools.of(layout)
        graphs = None if has_windows(layout.layer_groups) else self.graphs  # these take one table per row
        runner = ModelRunner.over(self.loaded.model, cache, self.ops, layout, graphs=graphs)
        return runner, DiskFile(cache, num_disk_slots, folder) if num_disk_slots else None

    # Costs, which are measured when engines already have their schedulers

    def recompute_time(self, num_tokens: int) -> float:
        return self._costs.recompute_time(num_tokens)

    def swap_time(self, num_slots: int) -> float:
        return self._costs.swap_time(num_slots)

    def warm_up(self, plan: Plan, num_tokens: int = 0) -> float | None:
        """Start threads, touch memory and choose kernels before anything is measured."""
        from pagedbench.execution.step_inputs import MoveInputs

        prompts = [Prompt(WARMUP_PROMPT_LEN, seed=i) for i in range(plan.config.warmup)]
        requests = [Request(p.seed, 0.0, p, SamplingParams(WARMUP_OUTPUT_LEN)) for p in prompts]
        plan = replace(plan, tier_slots=NO_TIERS)
        engine = self.make_engine(plan)
        if engine.memory.pages is None:  # else pages are committed when they are needed, which is measured
            self.cache.touch(num_tokens)
        record = engine.run(FixedArrivals(requests))
        if CHEAPEST in (plan.config.preemption, plan.config.victim):
            self._costs = self._measured_costs(plan)
        if not len(record.steps):  # no warm-up was asked for, or no request fits
            return None
        if self.graphs is not None:
            config, may_swap = plan.config, plan.config.preemption == "swap" or plan.config.width > 1
            self.graphs.capture_up_to((config.batch_size or 0) * config.width or config.max_num_seqs)
            target = Pool.HOST if may_swap and engine.memory.num_host_slots else Pool.DEVICE
            copy = MoveInputs(Pool.DEVICE, target, np.array([[0, 0, 1]]))
            self.cache.in_groups(plan.layer_groups).move(copy, self.ops)  # also pins the host's pool
            record = self.make_engine(plan).run(FixedArrivals(requests))  # the first one compiled kernels
        return sum(item.num_tokens for item in record.requests) / float(record.steps.end[-1])

    def _measured_costs(self, plan: Plan) -> ReturnCosts:
        """The costs of recomputing and of swapping, from one prompt and one swap of the same length."""
        from pagedbench.execution.return_costs import REPEATS, MeasuredCosts, swap_seconds

        longest = min(plan.shape.max_model_len, plan.config.max_model_len or COST_PROMPT_LEN) - 1
        length, times = max(min(COST_PROMPT_LEN, longest, plan.kv_slots // 2), 1), []
        for repeat in range(REPEATS):
            request = Request(0, 0.0, Prompt(length, seed=repeat), SamplingParams(1))
            engine = self.make_engine(plan)
            times.append(float(engine.run(FixedArrivals([request])).steps.end[-1]))
        swapped = min(length, engine.memory.num_host_slots)
        cache = self.cache.in_groups(plan.layer_groups)
        swap = swap_seconds(cache, self.ops, swapped, plan.config.block_size) if swapped else math.inf
        return MeasuredCosts(min(times) / length, swap)


class SharedBackend(ModelBackend):
    """Runs a model on several ranks; this object holds rank 0's part of the weights and of the pool."""

    def __init__(self, leader: Leader, part: Part) -> None:
        super().__init__(part.loaded, part.pools.cache, part.ops)
        self._leader = leader
        self._part = part

    @property
    def is_usable(self) -> bool:
        return self._leader.is_in_step

    def _runner(
        self, layout: PoolLayout, num_disk_slots: int, folder: str | None
    ) -> tuple[Runner, Disk | None]:
        return self._leader.engine(self._part, layout, num_disk_slots, folder)
