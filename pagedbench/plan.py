"""Plan: a run in which device, dtype, pool and limits are decided, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagedbench.config import ConfigError
from pagedbench.memory.layer_group import ALL_LAYERS
from pagedbench.pool import (
    DEFAULT_MAX_MODEL_LEN,
    INT8,
    NO_TIERS,
    TierSlots,
    check_kv_dtype,
    check_memory,
    decide_pages,
    decide_pool,
    default_batch_size,
    host_slots_of,
    kv_bytes_per_token,
    layer_groups_of,
    slots_per_token,
    tier_slots_of,
)
from pagedbench.simulation.cards import CARDS, check_device
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES, shape_for_simulation
from pagedbench.simulation.memory_plan import PUBLISHED_BLOCKS, USABLE_SHARE, plan_memory
from pagedbench.simulation.profile import read_profile
from pagedbench.simulation.step_times import DEFAULT_COST_MODEL, per_slot, step_times_of
from pagedbench.systems import System, build_memory, build_scheduler, canonical_name, system_of

if TYPE_CHECKING:
    from pagedbench.config import RunConfig
    from pagedbench.execution.parallel.layout import RankLayout
    from pagedbench.loadgen.server import Server
    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.memory.manager import KVManager
    from pagedbench.memory.pages import PageSpec
    from pagedbench.simulation.cost_model import StepTimes
    from pagedbench.simulation.profile import Profile
    from pagedbench.simulation.shapes import ModelShape
    from pagedbench.simulation.twin import Twin

DEFAULT_KV_SLOTS = 15_696
"""The paper's pool for OPT-13B on an A100-40GB, in tokens; real runs use as many."""

PUBLISHED_BLOCK_SIZE = 16
NO_WEIGHTS = "none (simulated)"
DEFAULT_RANKS = {"opt-66b": 4, "opt-175b": 8}


@dataclass(frozen=True, slots=True)
class Plan:
    """A run in which every option is decided.

    Attributes:
        config: the options, resolved: the system by its own name; device, dtype, limits and pool decided.
        kv_slots: tokens in the pool, each in all layers; the same for every system.
        kv_bytes: bytes of the pool, all ranks together.
        device_name: the device as reports show it.
        weights: "real", "dummy (seeded random)" or "none (simulated)".
        kernels: "native", "reference" or "simulated".
        step_times: the cost model of a simulated device.
        memory_plan: labels and bytes of a simulated device's memory; see `MemoryPlan.rows`.
        host_slots: tokens in the host pool, for systems that swap; None: as many as on the device.
        tier_slots: tokens in the tiers that evicted blocks of prefixes go to.
        pages: the pages in which memory is committed; None: every slot has memory from the beginning.
        tokenizer: folder of the model's own tokenizer, where it has one.
        layer_groups: the layer groups that the memory manager keeps apart.
        ranks: the processes of a real run with several ranks; None: one process, or nothing is computed.
        twin: of the server that the run predicts; None: it predicts none.
        server: the foreign server that serves the requests; None: our engine does.
    """

    config: RunConfig
    system: System
    shape: ModelShape
    kv_slots: int
    kv_bytes: int
    device_name: str
    weights: str
    kernels: str
    step_times: StepTimes | None = None
    memory_plan: tuple[tuple[str, int], ...] = ()
    host_slots: int | None = None
    tier_slots: TierSlots = NO_TIERS
    pages: PageSpec | None = None
    tokenizer: str | None = None
    layer_groups: tuple[LayerGroup, ...] = (ALL_LAYERS,)
    ranks: RankLayout | None = None
    twin: Twin | None = None
    server: Server | None = None

    @property
    def num_blocks(self) -> int:
        return self.kv_slots // self.config.block_size

    def in_slots(self, num_tokens: int) -> int:
        """The manager's slots, in whole blocks, that fit the bytes of `num_tokens` tokens in all layers."""
        num_slots = int(num_tokens * slots_per_token(self.layer_groups, self.shape))
        return num_slots - num_slots % self.config.block_size

    @property
    def slot_bytes(self) -> int:
        """Bytes of one of the manager's slots: one token in the layers of one group."""
        return int(self.kv_bytes / self.kv_slots / slots_per_token(self.layer_groups, self.shape))

    @property
    def caches_prefixes(self) -> bool:
        """Is there a cache of prefixes, which evicts blocks?"""
        return self.config.prefix_caching and self.system.manager.caches_prefixes

    @property
    def cost_model(self) -> str | None:
        """The source of the simulated step times, in words."""
        return None if self.step_times is None else self.step_times.source

    @property
    def attention_cost(self) -> str | None:
        """The cost of simulated decoding attention over blocks, and its source, in words."""
        return None if self.step_times is None else self.step_times.attention or None


def make_plan(config: RunConfig) -> Plan:
    """Resolve a configuration. Loads no weights, and no torch for a simulated device.

    Raises:
        ConfigError: something is unknown, impossible, or does not fit together.
    """
    check_device(config.device)
    config = replace(config, system=canonical_name(config.system))
    plan = _simulated(config) if config.is_simulated else _real(config)
    build_scheduler(plan.config, memory_of(plan))
    return plan


def memory_of(plan: Plan) -> KVManager:
    """The memory manager of a plan, empty."""
    return build_memory(
        plan.config,
        plan.in_slots(plan.kv_slots),
        None if plan.host_slots is None else plan.in_slots(plan.host_slots),
        (plan.in_slots(plan.tier_slots.host), plan.in_slots(plan.tier_slots.disk)),
        plan.layer_groups,
        plan.pages,
    )


def _simulated(config: RunConfig) -> Plan:
    device = config.device.removeprefix("sim:")
    if config.kernels != "auto":
        raise ConfigError("--kernels has no effect on a simulated device: nothing is computed")
    if device not in CARDS:
        path = Path(device).expanduser()
        return plan_on(read_profile(path), config, path)
    if config.dtype not in ("auto", "float16"):
        raise ConfigError(f"simulated cards are calibrated for float16, not {config.dtype}")
    shape, card, system = shape_for_simulation(config.model), CARDS[device], _system(config)
    ranks = config.tensor_parallel_size or DEFAULT_RANKS.get(shape.name, 1)
    cost_model = DEFAULT_COST_MODEL if config.cost_model == "auto" else config.cost_model
    step_times = step_times_of(
        cost_model,
        shape,
        card,
        ranks,
        system.attention,
        block_size=config.block_size,
        is_request_level=system.is_request_level,
        has_int8=config.kv_dtype == INT8,
    )
    share = config.gpu_memory_utilization
    memory = plan_memory(shape, card.memory, ranks, USABLE_SHARE if share is None else share)
    published = PUBLISHED_BLOCKS.get((device, shape.name, ranks)) if share is None else None
    config = replace(config, dtype="float16", tensor_parallel_size=ranks, cost_model=cost_model)
    check_memory(config, shape, memory)
    pool_bytes = memory.kv_cache
    if published:
        pool_bytes = published * PUBLISHED_BLOCK_SIZE * shape.kv_bytes_per_token(2, ranks)  # in 16 bits
    plan = _plan(
        config,
        shape,
        pool_bytes // kv_bytes_per_token(config, shape),
        device_name=f"{ranks} x {device.upper()}, simulated",
        weights=NO_WEIGHTS,
        kernels="simulated",
        step_times=step_times,
    )
    return replace(plan, memory_plan=memory.rows(plan.kv_bytes))


def plan_on(profile: Profile, config: RunConfig, path: Path) -> Plan:
    """The plan for a machine that `calibrate` has measured. Refuses what `Profile.check` does."""
    profile.check(config, path)
    return _plan(
        replace(config, dtype=profile.dtype, tensor_parallel_size=1),
        profile.shape,
        DEFAULT_KV_SLOTS,
        device_name=f"{profile.device_name}, simulated",
        weights=NO_WEIGHTS,
        kernels="simulated",
        step_times=profile.costs(_system(config).attention, config.block_size),
        twin=profile.twin,
    )


def _real(config: RunConfig) -> Plan:
    from pagedbench.execution.parallel.layout import rank_layout
    from pagedbench.models.loader import load_shape, tokenizer_of
    from pagedbench.ops.device import default_dtype, describe_device, find_device, find_kernels

    shape = load_shape(config.model)
    device = find_device(config.device)
    dtype = default_dtype(device) if config.dtype == "auto" else config.dtype
    num_ranks = config.tensor_parallel_size or 1
    if (ranks := rank_layout(num_ranks, device)) is not None:
        from pagedbench.models.shard_loader import check_shards

        check_shards(config.model, num_ranks)
    is_dummy = config.load_format == "dummy" or config.model in BUILT_IN_SHAPES
    return _plan(
        replace(config, device=device, dtype=dtype, tensor_parallel_size=num_ranks),
        shape,
        DEFAULT_KV_SLOTS,
        device_name=describe_device(device, None if ranks is None else str(ranks)),
        weights="dummy (seeded random)" if is_dummy else "real",
        kernels=find_kernels(device, config.kernels, dtype),
        tokenizer=tokenizer_of(config.model),
        ranks=ranks,
    )


def _plan(config: RunConfig, shape: ModelShape, default_slots: int, **facts: Any) -> Plan:
    """Decide the pool of a configuration whose device, dtype and ranks are decided.

    Args:
        default_slots: tokens in the pool if no option says how many.
        facts: the other fields of the plan.
    """
    check_kv_dtype(config, shape)
    config, kv_slots = decide_pool(config, shape, default_slots)
    config, pages = decide_pages(config, shape)
    kv_bytes, host_slots = kv_slots * kv_bytes_per_token(config, shape), host_slots_of(config, shape)
    facts |= {"host_slots": host_slots, "tier_slots": tier_slots_of(config, shape), "pages": pages}
    facts["layer_groups"] = groups = layer_groups_of(config, shape)
    if (number := slots_per_token(groups, shape)) > 1 and facts.get("step_times") is not None:
        facts["step_times"] = per_slot(facts["step_times"], float(1 / number))
    return Plan(config, _system(config), shape, kv_slots, kv_bytes, **facts)


def _system(config: RunConfig) -> System:
    return system_of(config.system, config.memory, config.batching)


def with_length_of(plan: Plan, asked: RunConfig, longest: int) -> Plan:
    """The plan for a trace whose longest row has `longest` tokens of prompt and output.

    If the default limit would drop that row, and no limit was asked for, the limit is the model's own.

    Args:
        asked: the options before they were resolved.
    """
    max_model_len = plan.shape.max_model_len
    is_enough = min(longest + 1, max_model_len) <= DEFAULT_MAX_MODEL_LEN
    if asked.max_model_len is not None or is_enough:
        return plan
    return make_plan(replace(asked, max_model_len=max_model_len))


def with_room_for(plan: Plan, width: int) -> Plan:
    """The plan of a trace whose widest request has `width` sequences, more than the options say."""
    config = plan.config
    if config.batch_size is None or width <= config.width:
        return plan
    assert config.max_model_len is not None, "the configuration is not resolved"
    batch_size = default_batch_size(config, plan.kv_slots, config.max_model_len, width)
    return replace(plan, config=replace(config, batch_size=batch_size))


def with_pool(plan: Plan, kv_slots: int, batch_size: int | None) -> Plan:
    """The plan with another pool, which need not fit the device; `batch_size`: the option."""
    asked = replace(plan.config, kv_slots=kv_slots, batch_size=batch_size)
    config, kv_slots = decide_pool(asked, plan.shape, kv_slots)
    kv_bytes = kv_slots * kv_bytes_per_token(config, plan.shape)
    return replace(plan, config=config, kv_slots=kv_slots, kv_bytes=kv_bytes)
