"""RunConfig: a frozen dataclass whose fields are the options of `run` and the first CSV columns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from pagedbench.option_values import (
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    CHOICES,
    MAX_SEED,
    NO_RATE,
    OPTIONS_OF_ARRIVALS,
    RANGES,
)

DEFAULT_SYSTEM = "paged"


class InputError(ValueError):
    """What the user asked for cannot be done; the message is one sentence that says what to change."""


class ConfigError(InputError):
    """An option is unknown, impossible, without effect, or contradicts another."""


def _option(default: Any, help: str, *aliases: str, metavar: str | None = None) -> Any:
    """A field with its help text, its other names, and how the help page shows its value."""
    return field(default=default, metadata={"help": help, "aliases": aliases, "metavar": metavar})


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The options of one run: one system, trace, rate and seed. Lengths in tokens, times in seconds."""

    system: str = _option(
        DEFAULT_SYSTEM,
        "The system to run (see `pagedbench systems`), or a KVManager or Scheduler of your own, such as "
        "mine=module:Class.",
    )
    trace: str = _option(
        "sharegpt",
        "A bundled trace (see `pagedbench trace list`), a file or folder (Azure, BurstGPT, Mooncake, "
        "Bailian, Weka, AIBrix, ShareGPT, Alpaca, own CSV or JSONL; also .gz), or a hub id (owner/name).",
        "--dataset-name",
        "--dataset-path",
    )
    trace_block_size: int | None = _option(
        None, "Tokens of a block in a trace with block hashes that does not say [512, as Mooncake's]."
    )
    tokenizer: str | None = _option(
        None, "Folder, tokenizer.json or hub id, for traces of text [the model's]."
    )
    rate: float = _option(2.0, "Requests per second; inf: all at once.", "--request-rate")
    arrival: str = _option(
        "poisson",
        "poisson, gamma, constant, spike, ramp, closed (each client sends its next request after a reply), "
        "or trace (the trace's own timestamps).",
    )
    time_scale: float = _option(1.0, "The trace's own times are multiplied by this: 0.5 is twice as fast.")
    spike_at: float | None = _option(None, "Second at which a spike begins [half of the duration].")
    spike_duration: float = _option(30.0, "Seconds that a spike lasts.")
    spike_factor: float = _option(3.0, "The rate in a spike, as a multiple of --rate.")
    ramp_to: float | None = _option(None, "The rate at the end of a ramp that begins at --rate.")
    max_concurrency: int | None = _option(None, "Clients of a closed loop.")
    think_time: float = _option(0.0, "Mean seconds (exponential) from a reply to the next request.")
    turn_times: str = _option(
        "think",
        "When the turn of a session follows: think (think or tool time after the reply), recorded (the "
        "trace's gaps between turns), or api (after the recorded time of the reply too).",
    )
    length_scale: float = _option(
        1.0, "The trace's lengths are multiplied by this; what prompts share stays shared."
    )
    burstiness: float = _option(1.0, "Shape of gamma arrivals: 1 is Poisson, below 1 is burstier.")
    num_requests: int | None = _option(None, "How many requests [closed: 10 a client].", "--num-prompts")
    duration: float | None = _option(
        None, "Seconds of arrivals [60; 4 spikes long if that is more; with --arrival trace all of them]."
    )
    chat: bool = _option(
        False, "Conversations with all their turns, each sent after the previous reply (ShareGPT)."
    )
    shared_prefix_len: int = _option(0, "Tokens of a prefix that prompts share, before their own.")
    shared_prefix_groups: int = _option(1, "How many shared prefixes there are; each prompt has one.")
    warmup: int = _option(8, "Requests (8 in, 32 out) before a wall clock starts; not recorded.")
    n: int = _option(1, "Parallel samples of each prompt.")
    beam_width: int | None = _option(None, "Beams of each prompt, all returned [no beam search].")
    temperature: float = _option(0.0, "Sampling temperature; 0 is greedy.")
    top_p: float = _option(1.0, "Sample from the most likely tokens whose probabilities add up to this.")
    top_k: int = _option(0, "Sample from this many most likely tokens; 0: from all.")
    model: str = _option("opt-125m", "Built-in shape, local Hugging Face folder, or hub id.")
    load_format: str = _option("auto", "auto (real weights, where available) or dummy (seeded random).")
    device: str = _option(
        "auto",
        "auto, cpu, cuda; or simulated: sim:a100-40gb, sim:a100-80gb, sim:h100, sim:h200, or sim:FILE of "
        "`pagedbench calibrate`.",
    )
    cost_model: str = _option(
        "auto",
        "Cost model of a simulated card: modern [auto] (kernels of vLLM 0.14, no host time), vllm-2023 "
        "(the paper's engine and its host time), published (linear fits of it, for opt-13b and opt-66b on "
        "A100), or roofline (kernels of 2023, 4 ms of host).",
    )
    dtype: str = _option(
        "auto", "auto (bfloat16 where the device computes in it, else float32), float32, bfloat16, float16."
    )
    kernels: str = _option("auto", "auto, native (C++, CPU), triton (GPU) or reference (plain PyTorch).")
    tensor_parallel_size: int | None = _option(None, "Simulated ranks [1; opt-66b 4, opt-175b 8].", "-tp")
    kv_slots: int | None = _option(None, "KV pool in tokens, floored to whole blocks.")
    kv_memory: str | None = _option(None, "KV pool in bytes, such as 12GiB, floored to whole blocks.")
    gpu_memory_utilization: float | None = _option(
        None,
        "Share of a simulated card's memory that may be used; the KV pool gets what the model leaves of it "
        "[0.95; the paper's own pools where they are known].",
    )
    block_size: int = _option(16, "Tokens per block.")
    max_model_len: int | None = _option(
        None, "Longest prompt + output [2048; the model's if that is less, or a trace has longer rows]."
    )
    max_num_seqs: int = _option(256, "Sequences in one iteration.")
    max_num_batched_tokens: int = _option(2560, "Token budget per iteration.")
    batch_size: int | None = _option(
        None, "FasterTransformer's batch size [as many maximum-length requests as the pool holds]."
    )
    memory: str | None = _option(
        None,
        "A KVManager of your own instead of the system's; the run is named after it.",
        metavar="MODULE:CLASS",
    )
    batching: str | None = _option(
        None,
        "A Scheduler of your own instead of the system's; the run is named after it.",
        metavar="MODULE:CLASS",
    )
    preemption: str = _option("auto", "auto (recompute one sequence, swap a group), recompute, or swap.")
    victim: str = _option(
        "latest",
        "Whom to preempt: latest (arrival), least-computed, most-freed, cheapest, most-computed, random, "
        "oracle-shortest-left, or a VictimPolicy of your own, such as module:Class.",
    )
    swap_space: str | None = _option(None, "Host pool in bytes, such as 12GiB [as large as the KV pool].")
    prefix_caching: bool = _option(
        False, "Automatic prefix caching: reuse KV blocks of shared prompt prefixes; on,off compares both."
    )
    host_cache: str = _option("0", "Bytes on the host, such as 64GiB, for evicted blocks of prefixes.")
    disk_cache: str = _option("0", "Bytes in a file, for what --host-cache has no room for.")
    disk_cache_dir: str | None = _option(None, "Folder of that file [the system's temporary folder].")
    watermark: float = _option(
        0.01, "Share of the blocks that admission leaves free; the paper's, 0 in today's vLLM."
    )
    prefill: str = _option(
        "mixed",
        "mixed: prompts and decodes share iterations; separate: prompts first; chunked: decodes, then "
        "parts of prompts, within --max-num-batched-tokens.",
    )
    slo: str | None = _option(
        None,
        "Latency bounds: 'ttft:500ms tpot:50ms normalized_latency:0.2s', or those of a preset: chat, "
        "chat-66b, chat-175b, code, summarize.",
        "--goodput",
    )
    seed: int = _option(0, "Seed of arrivals, prompts and sampling.")
    label: str | None = _option(None, "A label for the run.")

    @property
    def is_simulated(self) -> bool:
        return is_simulated(self.device)

    @property
    def width(self) -> int:
        """Sequences per request, unless the trace says otherwise."""
        return self.beam_width or self.n

    def __post_init__(self) -> None:
        self._refuse_impossible_values()
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{flag(name)} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        self._refuse_contradicting_arrivals()
        self._refuse_contradicting_decoding()
        self._refuse_contradicting_memory()

    def _refuse_impossible_values(self) -> None:
        for names, least in ((AT_LEAST_ONE, 1), (AT_LEAST_ZERO, 0)):
            for name in names:
                value = getattr(self, name)
                if value is not None and value < least:
                    raise ConfigError(f"{flag(name)} must be at least {least}, not {value}")
        if self.seed > MAX_SEED:
            raise ConfigError(f"--seed must be at most {MAX_SEED}, not {self.seed}")
        for name, (is_possible, words) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not is_possible(value):
                raise ConfigError(f"{flag(name)} must be {words}, not {value:g}")

    def _refuse_contradicting_arrivals(self) -> None:
        if self.num_requests is not None and self.duration is not None:
            raise ConfigError("--num-requests and --duration contradict each other: give one of the two")
        if self.rate == math.inf and self.duration is not None:
            raise ConfigError(
                "--rate inf sends everything at once, so --duration has no effect: drop one of them"
            )
        if self.rate == math.inf and self.arrival not in ("poisson", *NO_RATE):
            raise ConfigError(
                f"--rate inf sends everything at once, so --arrival {self.arrival} has no effect"
            )
        if self.burstiness != 1.0 and self.arrival != "gamma":
            raise ConfigError(
                f"--burstiness shapes gamma arrivals and has no effect on --arrival {self.arrival}"
            )
        if self.time_scale != 1.0 and self.arrival != "trace" and self.turn_times == "think":
            raise ConfigError(
                "--time-scale multiplies a trace's own times and has no effect on "
                f"--arrival {self.arrival} with --turn-times think"
            )
        self._refuse_idle_shapes()
        if self.shared_prefix_groups > 1 and not self.shared_prefix_len:
            raise ConfigError("--shared-prefix-groups has no effect without --shared-prefix-len")
        if self.chat and self.shared_prefix_len:
            raise ConfigError(
                "--chat and --shared-prefix-len contradict each other: a turn's prompt begins with its own "
                "conversation, so drop one of the two"
            )

    def _refuse_idle_shapes(self) -> None:
        """Refuse options of one kind of arrivals with another kind."""
        for name, kind in OPTIONS_OF_ARRIVALS.items():
            if getattr(self, name) != FIELDS[name].default and self.arrival != kind:
                raise ConfigError(f"{flag(name)} has no effect without --arrival {kind}")
        if self.arrival == "ramp" and self.ramp_to is None:
            raise ConfigError("--arrival ramp needs --ramp-to, the rate at its end")
        if self.arrival != "closed":
            return
        if self.max_concurrency is None:
            raise ConfigError("--arrival closed needs --max-concurrency, the number of clients")
        if self.duration is not None:
            raise ConfigError(
                "--duration has no effect on --arrival closed, where arrivals depend on replies: give "
                "--num-requests"
            )

    def _refuse_contradicting_decoding(self) -> None:
        if self.beam_width is not None and self.n > 1:
            raise ConfigError("--n and --beam-width contradict each other: give one of the two")
        if self.beam_width is not None and self.temperature > 0:
            raise ConfigError("--beam-width does not sample: drop --temperature")
        if self.n > 1 and self.temperature == 0:
            raise ConfigError(
                "--n needs a --temperature above 0: greedy decoding gives the same reply every time"
            )
        for name, neutral in (("top_p", 1.0), ("top_k", 0)):
            if getattr(self, name) != neutral and self.temperature == 0:
                raise ConfigError(f"{flag(name)} has no effect without a --temperature above 0")
        if self.width > self.max_num_seqs:
            raise ConfigError(
                f"{'--beam-width' if self.beam_width else '--n'} {self.width} is above the "
                f"{self.max_num_seqs} sequences of --max-num-seqs: no request could ever run"
            )

    def _refuse_contradicting_memory(self) -> None:
        if self.kv_slots is not None and self.kv_memory is not None:
            raise ConfigError("--kv-slots and --kv-memory both size the pool: give one of the two")
        if self.swap_space is not None and self.preemption == "recompute":
            raise ConfigError("--swap-space has no effect on --preemption recompute: nothing is swapped")
        if not self.is_simulated and (self.tensor_parallel_size or 1) > 1:
            raise ConfigError(
                "--tensor-parallel-size above 1 needs a simulated device (--device sim:a100-40gb)"
            )
        if not self.is_simulated and self.gpu_memory_utilization is not None:
            raise ConfigError(
                "--gpu-memory-utilization has no effect on a real device: give --kv-memory or --kv-slots"
            )
        if not self.is_simulated and self.cost_model != "auto":
            raise ConfigError("--cost-model has no effect on a real device: its time is measured")
        if self.is_simulated and self.load_format != "auto":
            raise ConfigError("--load-format has no effect on a simulated device: nothing is loaded")


def is_simulated(device: object) -> bool:
    """Does a device of this name run in virtual time?"""
    return str(device).startswith("sim:")


def flag(name: str) -> str:
    """The command-line option of a field."""
    return "--" + name.replace("_", "-")


def plain(value: object) -> str:
    """The value of an option as reports show it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


FIELDS = {item.name: item for item in fields(RunConfig)}
