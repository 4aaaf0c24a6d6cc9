"""Plan: a run with nothing left open: device, dtype, pool and limits, decided before anything loads."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.execution.cost_model import LINEAR_COST_MODELS, LinearCostModel
from pagedbench.execution.memory_plan import DEVICE_BYTES, PUBLISHED_BLOCKS, plan_memory
from pagedbench.execution.shapes import BUILT_IN_SHAPES
from pagedbench.memory.contiguous import EqualExtents
from pagedbench.systems import SYSTEMS, System, build_memory, build_scheduler, canonical_name

if TYPE_CHECKING:
    from pagedbench.config import RunConfig
    from pagedbench.execution.shapes import ModelShape

DEFAULT_KV_SLOTS = 15_696
"""The paper's pool for OPT-13B on an A100-40GB, in tokens; real runs use as many."""

DEFAULT_MAX_MODEL_LEN = 2048
PUBLISHED_BLOCK_SIZE = 16
DEFAULT_RANKS = {"opt-66b": 4, "opt-175b": 8}
MAX_BLOCKS = 2**23
MAX_BYTES = 2**60
"""A larger pool is a slip of the pen."""

ELEMENT_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True, slots=True)
class Plan:
    """What will run.

    Attributes:
        config: the options, resolved: system by its own name, device, dtype, limits and pool decided.
        kv_slots: tokens in the pool; the same for every system.
        kv_bytes: bytes of the pool, all ranks together.
        device_name: the device, for people.
        weights: "real", "dummy (seeded random)" or "none (simulated)".
        kernels: "native", "reference" or "simulated".
        step_times: the cost model of a simulated device.
        memory_plan: labels and bytes of a simulated device's memory.
        tokenizer: folder of the model's own tokenizer, where it has one.
    """

    config: RunConfig
    system: System
    shape: ModelShape
    kv_slots: int
    kv_bytes: int
    device_name: str
    weights: str
    kernels: str
    step_times: LinearCostModel | None = None
    memory_plan: tuple[tuple[str, float], ...] = ()
    tokenizer: str | None = None

    @property
    def num_blocks(self) -> int:
        return self.kv_slots // self.config.block_size

    @property
    def cost_model(self) -> str | None:
        """Where the simulated step times come from, in words."""
        return None if self.step_times is None else self.step_times.source


def make_plan(config: RunConfig) -> Plan:
    """Resolve a configuration. Loads no weights, and no torch for a simulated device.

    Raises:
        ConfigError: something is unknown, impossible, or does not fit together.
    """
    config = replace(config, system=canonical_name(config.system))
    plan = _simulated(config) if config.is_simulated else _real(config)
    manager = build_memory(plan.config, plan.kv_slots)
    build_scheduler(plan.config, manager)
    return plan


def _simulated(config: RunConfig) -> Plan:
    device = config.device.removeprefix("sim:")
    if device not in DEVICE_BYTES:
        known = ", ".join(f"sim:{name}" for name in DEVICE_BYTES)
        raise ConfigError(f"unknown simulated device {config.device!r}: choose from {known}")
    if config.kernels != "auto":
        raise ConfigError("--kernels has no effect on a simulated device: nothing is computed")
    if config.dtype not in ("auto", "float16"):
        raise ConfigError(f"simulated devices are calibrated for float16, not {config.dtype}")
    if config.model not in BUILT_IN_SHAPES:
        raise ConfigError(f"unknown model {config.model!r} for a simulated device: {_calibrated(device)}")
    shape = BUILT_IN_SHAPES[config.model]
    ranks = config.tensor_parallel_size or DEFAULT_RANKS.get(shape.name, 1)
    step_times = LINEAR_COST_MODELS.get((device, shape.name, ranks))
    if step_times is None:
        raise ConfigError(
            f"no step times are known for {shape.name} on {ranks} x {device}: {_calibrated(device)}"
        )
    memory = plan_memory(shape, DEVICE_BYTES[device], ranks)
    published = PUBLISHED_BLOCKS.get((device, shape.name, ranks))
    kv_bytes = max(memory.kv_cache, 0) * ranks
    default = published * PUBLISHED_BLOCK_SIZE if published else kv_bytes // shape.kv_bytes_per_token(2)
    config = replace(config, dtype="float16", tensor_parallel_size=ranks)
    config, kv_slots = _with_pool(config, shape, default)
    return Plan(
        config=config,
        system=SYSTEMS[config.system],
        shape=shape,
        kv_slots=kv_slots,
        kv_bytes=kv_slots * shape.kv_bytes_per_token(2),
        device_name=f"{ranks} x {device.upper()}, simulated",
        weights="none (simulated)",
        kernels="simulated",
        step_times=step_times,
        memory_plan=memory.rows(ranks),
    )


def _calibrated(device: str) -> str:
    known = [f"{model} on {ranks}" for name, model, ranks in LINEAR_COST_MODELS if name == device]
    return f"sim:{device} knows {' and '.join(known)}"


def _real(config: RunConfig) -> Plan:
    from pagedbench.models.loader import load_shape, tokenizer_of
    from pagedbench.ops.device import describe_device, find_device, find_kernels

    shape = load_shape(config.model)
    device = find_device(config.device)
    dtype = config.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    kernels = find_kernels(device, config.kernels, dtype)
    config = replace(config, device=device, dtype=dtype, tensor_parallel_size=1)
    config, kv_slots = _with_pool(config, shape, DEFAULT_KV_SLOTS)
    is_dummy = config.load_format == "dummy" or config.model in BUILT_IN_SHAPES
    return Plan(
        config=config,
        system=SYSTEMS[config.system],
        shape=shape,
        kv_slots=kv_slots,
        kv_bytes=kv_slots * shape.kv_bytes_per_token(ELEMENT_SIZES[dtype]),
        device_name=describe_device(device),
        weights="dummy (seeded random)" if is_dummy else "real",
        kernels=kernels,
        tokenizer=tokenizer_of(config.model),
    )


def _with_pool(config: RunConfig, shape: ModelShape, default_slots: int) -> tuple[RunConfig, int]:
    """Decide the pool, and what depends on it."""
    kv_slots = config.kv_slots or default_slots
    if config.kv_memory is not None:
        kv_slots = parse_bytes(config.kv_memory) // shape.kv_bytes_per_token(ELEMENT_SIZES[config.dtype])
    kv_slots -= kv_slots % config.block_size
    if kv_slots // config.block_size > MAX_BLOCKS:
        raise ConfigError(f"the KV pool would have more than {MAX_BLOCKS:,} blocks: make it smaller")
    if kv_slots <= 0:
        raise ConfigError(
            f"the KV pool holds not even one block of {config.block_size} tokens: enlarge --kv-slots"
        )
    max_model_len = config.max_model_len or min(DEFAULT_MAX_MODEL_LEN, shape.max_model_len)
    if max_model_len > shape.max_model_len:
        raise ConfigError(
            f"--max-model-len {max_model_len} is above the {shape.max_model_len} tokens of {shape.name}"
        )
    config = replace(config, kv_slots=kv_slots, kv_memory=None, max_model_len=max_model_len)
    is_request_level = SYSTEMS[config.system].manager is EqualExtents and config.memory is None
    if not is_request_level:
        return replace(config, batch_size=None), kv_slots
    batch_size = config.batch_size or min(max(kv_slots // max_model_len, 1), config.max_num_seqs)
    if batch_size > config.max_num_seqs:
        raise ConfigError(
            f"--batch-size {batch_size} is above --max-num-seqs {config.max_num_seqs}: lower it"
        )
    if batch_size > kv_slots:
        raise ConfigError(f"--batch-size {batch_size} leaves no slot to each of the requests: lower it")
    return replace(config, batch_size=batch_size), kv_slots


def parse_bytes(text: str) -> int:
    """Bytes from "12GiB", "512 MiB", "1e9" or "12GB".

    Raises:
        ConfigError: it is not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([KMG]?I?B?)\s*", text, re.IGNORECASE)
    if match is None or match[2].upper() not in UNITS:
        raise ConfigError(f"{text!r} is not a size in bytes: write it like 12GiB, 800MiB or 1e9")
    size = float(match[1]) * UNITS[match[2].upper()]
    if size > MAX_BYTES:
        raise ConfigError(f"{text!r} is more memory than any machine has: write it like 12GiB or 800MiB")
    return int(size)
