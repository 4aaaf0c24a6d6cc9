"""The KV pool of a run: its size in tokens, and the limits that follow from it."""

from __future__ import annotations

import mmap
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from pagedbench.config import ConfigError, flag
from pagedbench.memory.pages import KeptPages, PageSpec
from pagedbench.simulation.cards import CARDS
from pagedbench.simulation.memory_plan import parse_bytes
from pagedbench.simulation.page_costs import page_cost_of
from pagedbench.simulation.shapes import SCALE_SIZE
from pagedbench.systems import system_of

if TYPE_CHECKING:
    from pagedbench.config import RunConfig
    from pagedbench.memory.layer_group import LayerGroup
    from pagedbench.simulation.memory_plan import MemoryPlan
    from pagedbench.simulation.shapes import ModelShape

DEFAULT_MAX_MODEL_LEN = 2048
MIN_PAGE, MAX_PAGE = 2**12, 2**21
MAX_BLOCKS = 2**23
"""A larger pool is a typing error."""

INT8 = "int8"
"""The value of `--kv-dtype` for keys and values of 8 bits."""

ELEMENT_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


def decide_pool(config: RunConfig, shape: ModelShape, default_slots: int) -> tuple[RunConfig, int]:
    """Decide the pool and the limits that depend on it. Returns the resolved options and the slots."""
    kv_slots = config.kv_slots or default_slots
    if config.kv_memory is not None:
        kv_slots = parse_bytes(config.kv_memory) // kv_bytes_per_token(config, shape)
    kv_slots -= kv_slots % config.block_size
    if kv_slots // config.block_size > MAX_BLOCKS:
        raise ConfigError(f"the KV pool would have more than {MAX_BLOCKS:,} blocks: make it smaller")
    if kv_slots <= 0:
        raise ConfigError(
            f"the KV pool holds not even one block of {config.block_size} tokens: enlarge --kv-slots"
        )
    _check_prefixes(config, shape, kv_slots)
    max_model_len = config.max_model_len or min(DEFAULT_MAX_MODEL_LEN, shape.max_model_len)
    if max_model_len > shape.max_model_len:
        raise ConfigError(
            f"--max-model-len {max_model_len} is above the {shape.max_model_len} tokens of {shape.name}"
        )
    config = replace(config, kv_slots=kv_slots, kv_memory=None, max_model_len=max_model_len)
    if not system_of(config.system, config.memory, config.batching).manager.has_equal_extents:
        return replace(config, batch_size=None), kv_slots
    batch_size = config.batch_size or default_batch_size(config, kv_slots, max_model_len, config.width)
    if config.batch_size is not None and batch_size * config.width > config.max_num_seqs:
        raise ConfigError(
            f"--batch-size {batch_size} is above the {config.max_num_seqs} sequences of "
            "--max-num-seqs: lower it"
        )
    if batch_size * config.width > kv_slots:
        raise ConfigError(f"--batch-size {batch_size} leaves no slot to each of the sequences: lower it")
    return replace(config, batch_size=batch_size), kv_slots


def default_batch_size(config: RunConfig, kv_slots: int, max_model_len: int, width: int) -> int:
    """The number of requests of `width` longest sequences that the pool and an iteration hold."""
    return max(min(kv_slots // (max_model_len * width), config.max_num_seqs // width), 1)


def layer_groups_of(config: RunConfig, shape: ModelShape) -> tuple[LayerGroup, ...]:
    """The layers that the run's memory manager keeps apart; one group unless the model has windows."""
    return system_of(config.system, config.memory, config.batching).keeps_apart(shape.layer_groups)


def slots_per_token(groups: tuple[LayerGroup, ...], shape: ModelShape) -> Fraction:
    """Slots, each of one token in the layers of one group, in the bytes of one token in all layers."""
    return Fraction(shape.num_layers, max(len(group.layers or range(shape.num_layers)) for group in groups))


def _check_prefixes(config: RunConfig, shape: ModelShape, kv_slots: int) -> None:
    groups = layer_groups_of(config, shape)
    num_blocks = int(kv_slots * slots_per_token(groups, shape)) // config.block_size
    num_pinned = config.shared_prefix_groups * (config.shared_prefix_len // config.block_size) * len(groups)
    if num_pinned >= num_blocks:
        raise ConfigError(
            f"the shared prefixes take {num_pinned:,} blocks, but the KV pool has {num_blocks:,}: lower "
            "--shared-prefix-len or --shared-prefix-groups, or enlarge --kv-slots"
        )


def host_slots_of(config: RunConfig, shape: ModelShape) -> int | None:
    """The host pool in tokens; None if no option gives its size."""
    if config.swap_space is None:
        return None
    host_slots = parse_bytes(config.swap_space) // kv_bytes_per_token(config, shape)
    if host_slots // config.block_size > MAX_BLOCKS:
        raise ConfigError(f"--swap-space would have more than {MAX_BLOCKS:,} blocks: make it smaller")
    return host_slots - host_slots % config.block_size


class TierSlots(NamedTuple):
    """Tokens that the tiers below the device hold."""

    host: int
    disk: int


NO_TIERS = TierSlots(0, 0)


def tier_slots_of(config: RunConfig, shape: ModelShape) -> TierSlots:
    """The tiers that evicted blocks of prefixes go to, in tokens, rounded down to whole blocks.

    Raises:
        ConfigError: nothing would be evicted to them, or they hold no block.
    """
    slots = []
    for name in ("host_cache", "disk_cache"):
        size = parse_bytes(getattr(config, name))
        number = size // kv_bytes_per_token(config, shape) // config.block_size
        if size and not config.prefix_caching:
            raise ConfigError(f"{flag(name)} has no effect without --prefix-caching: nothing is cached")
        if size and not 0 < number <= MAX_BLOCKS:
            words = "not even one block" if not number else f"more than {MAX_BLOCKS:,} blocks"
            raise ConfigError(f"{flag(name)} {getattr(config, name)} holds {words}: change it")
        slots.append(number * config.block_size)
    if config.disk_cache_dir is not None and (config.is_simulated or not slots[1]):
        reason = (
            "on a simulated device: there is no file" if config.is_simulated else "without --disk-cache"
        )
        raise ConfigError(f"--disk-cache-dir has no effect {reason}")
    return TierSlots(*slots)


def decide_pages(config: RunConfig, shape: ModelShape) -> tuple[RunConfig, PageSpec | None]:
    """Decide the pages that memory is committed in. Returns the resolved options, and the pages, if any.

    Raises:
        ConfigError: the page size is impossible, or nothing commits pages on this device.
    """
    system = system_of(config.system, config.memory, config.batching)
    if not system.manager.commits_pages:
        return config, None
    if not config.is_simulated and config.device != "cpu":
        raise ConfigError(
            f"{system.name} lets the operating system commit pages, which it cannot do on a GPU: take "
            "--device cpu, or a simulated card"
        )
    is_card = config.device.removeprefix("sim:") in CARDS
    page_size = config.page_size or ("2MiB" if is_card else f"{mmap.PAGESIZE // 1024}KiB")
    page_bytes = parse_bytes(page_size)
    if page_bytes & (page_bytes - 1) or not MIN_PAGE <= page_bytes <= MAX_PAGE:
        raise ConfigError(f"--page-size is a power of two from 4KiB to 2MiB, not {page_size}")
    if config.is_simulated:
        page_cost_of(config.device, page_bytes)
    ranks = config.tensor_parallel_size or 1
    spec = PageSpec(
        row_bytes=kv_bytes_per_token(config, shape) // (2 * shape.num_layers * ranks),
        page_bytes=page_bytes,
        ahead_tokens=config.commit_ahead,
        kept=KeptPages(config.kept_pages),
        max_extents=config.max_num_seqs,
    )
    return replace(config, page_size=page_size), spec


def kv_bytes_per_token(config: RunConfig, shape: ModelShape) -> int:
    """Bytes of one token's keys and values, on all ranks; dtype and ranks are decided."""
    ranks = config.tensor_parallel_size or 1
    if config.kv_dtype == INT8:
        return shape.kv_bytes_per_token(1, ranks, scale_size=SCALE_SIZE)
    return shape.kv_bytes_per_token(ELEMENT_SIZES[config.dtype], ranks)


def check_memory(config: RunConfig, shape: ModelShape, memory: MemoryPlan) -> None:
    """Refuse a model or a pool that the simulated cards have no memory for."""
    option, wanted = f"--kv-slots {config.kv_slots}", config.kv_slots or 0
    wanted *= kv_bytes_per_token(config, shape)
    if config.kv_memory is not None:
        option, wanted = f"--kv-memory {config.kv_memory}", parse_bytes(config.kv_memory)
    cards = f"{config.tensor_parallel_size} x {config.device.removeprefix('sim:')}"
    memory.check(f"{shape.name} on {cards}", option, wanted)


def check_kv_dtype(config: RunConfig, shape: ModelShape) -> None:
    """Refuse heads after which a scale would not be aligned.

    Raises:
        ConfigError: the size of a head is not a multiple of the scale's.
    """
    if config.kv_dtype == INT8 and shape.head_dim % SCALE_SIZE:
        raise ConfigError(
            f"--kv-dtype int8 needs heads whose size is a multiple of {SCALE_SIZE}, and those of "
            f"{shape.name} have {shape.head_dim}: leave it out"
        )
