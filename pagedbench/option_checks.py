"""Refusals of options that are impossible, contradict each other, or would have no effect."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING

from pagedbench.errors import ConfigError
from pagedbench.option_values import (
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    CHOICES,
    MAX_SEED,
    NO_RATE,
    OPTIONS_OF_ARRIVALS,
    RANGES,
    flag,
)

if TYPE_CHECKING:
    from pagedbench.config import RunConfig


def refuse_impossible(config: RunConfig) -> None:
    """Refuse options that are impossible, without effect, or contradict each other.

    Raises:
        ConfigError: one is.
    """
    _refuse_impossible_values(config)
    for name, known in CHOICES.items():
        if getattr(config, name) not in known:
            raise ConfigError(f"{flag(name)} is one of {', '.join(known)}, not {getattr(config, name)!r}")
    _refuse_contradicting_arrivals(config)
    _refuse_contradicting_decoding(config)
    _refuse_contradicting_memory(config)


def _refuse_impossible_values(config: RunConfig) -> None:
    for names, least in ((AT_LEAST_ONE, 1), (AT_LEAST_ZERO, 0)):
        for name in names:
            value = getattr(config, name)
            if value is not None and value < least:
                raise ConfigError(f"{flag(name)} must be at least {least}, not {value}")
    if config.seed > MAX_SEED:
        raise ConfigError(f"--seed must be at most {MAX_SEED}, not {config.seed}")
    for name, (is_possible, words) in RANGES.items():
        value = getattr(config, name)
        if value is not None and not is_possible(value):
            raise ConfigError(f"{flag(name)} must be {words}, not {value:g}")


def _refuse_contradicting_arrivals(config: RunConfig) -> None:
    if config.num_requests is not None and config.duration is not None:
        raise ConfigError("--num-requests and --duration contradict each other: give one of the two")
    if config.rate == math.inf and config.duration is not None:
        raise ConfigError(
            "--rate inf sends everything at once, so --duration has no effect: drop one of them"
        )
    if config.rate == math.inf and config.arrival not in ("poisson", *NO_RATE):
        raise ConfigError(
            f"--rate inf sends everything at once, so --arrival {config.arrival} has no effect"
        )
    if config.burstiness != 1.0 and config.arrival != "gamma":
        raise ConfigError(
            f"--burstiness shapes gamma arrivals and has no effect on --arrival {config.arrival}"
        )
    if config.time_scale != 1.0 and config.arrival != "trace" and config.turn_times == "think":
        raise ConfigError(
            "--time-scale multiplies a trace's own times and has no effect on "
            f"--arrival {config.arrival} with --turn-times think"
        )
    _refuse_idle_shapes(config)
    if config.shared_prefix_groups > 1 and not config.shared_prefix_len:
        raise ConfigError("--shared-prefix-groups has no effect without --shared-prefix-len")
    if config.chat and config.shared_prefix_len:
        raise ConfigError(
            "--chat and --shared-prefix-len contradict each other: a turn's prompt begins with its own "
            "conversation, so drop one of the two"
        )


def _refuse_idle_shapes(config: RunConfig) -> None:
    """Refuse options of one kind of arrivals with another kind."""
    usual = {item.name: item.default for item in fields(config)}
    for name, kind in OPTIONS_OF_ARRIVALS.items():
        if getattr(config, name) != usual[name] and config.arrival != kind:
            raise ConfigError(f"{flag(name)} has no effect without --arrival {kind}")
    if config.arrival == "ramp" and config.ramp_to is None:
        raise ConfigError("--arrival ramp needs --ramp-to, the rate at its end")
    if config.arrival != "closed":
        return
    if config.max_concurrency is None:
        raise ConfigError("--arrival closed needs --max-concurrency, the number of clients")
    if config.duration is not None:
        raise ConfigError(
            "--duration has no effect on --arrival closed, where arrivals depend on replies: give "
            "--num-requests"
        )


def _refuse_contradicting_decoding(config: RunConfig) -> None:
    if config.beam_width is not None and config.n > 1:
        raise ConfigError("--n and --beam-width contradict each other: give one of the two")
    if config.beam_width is not None and config.temperature > 0:
        raise ConfigError("--beam-width does not sample: drop --temperature")
    if config.n > 1 and config.temperature == 0:
        raise ConfigError(
            "--n needs a --temperature above 0: greedy decoding gives the same reply every time"
        )
    for name, neutral in (("top_p", 1.0), ("top_k", 0)):
        if getattr(config, name) != neutral and config.temperature == 0:
            raise ConfigError(f"{flag(name)} has no effect without a --temperature above 0")
    if config.width > config.max_num_seqs:
        raise ConfigError(
            f"{'--beam-width' if config.beam_width else '--n'} {config.width} is above the "
            f"{config.max_num_seqs} sequences of --max-num-seqs: no request could ever run"
        )


def _refuse_contradicting_memory(config: RunConfig) -> None:
    if config.kv_slots is not None and config.kv_memory is not None:
        raise ConfigError("--kv-slots and --kv-memory both size the pool: give one of the two")
    if config.prefill_chunk_size is not None and config.prefill != "chunked":
        raise ConfigError("--prefill-chunk-size has no effect without --prefill chunked")
    if config.swap_space is not None and config.preemption == "recompute":
        raise ConfigError("--swap-space has no effect on --preemption recompute: nothing is swapped")
    if not config.is_simulated and config.gpu_memory_utilization is not None:
        raise ConfigError(
            "--gpu-memory-utilization has no effect on a real device: give --kv-memory or --kv-slots"
        )
    if not config.is_simulated and config.cost_model != "auto":
        raise ConfigError("--cost-model has no effect on a real device: its time is measured")
    if config.is_simulated and config.load_format != "auto":
        raise ConfigError("--load-format has no effect on a simulated device: nothing is loaded")
