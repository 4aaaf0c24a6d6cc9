"""RunConfig: a frozen dataclass whose fields are the options of `run` and the first CSV columns."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from pagedbench.errors import ConfigError as ConfigError
from pagedbench.errors import InputError as InputError
from pagedbench.option_checks import refuse_impossible
from pagedbench.option_values import flag as flag

DEFAULT_SYSTEM = "paged"


def _option(default: Any, help: str, *aliases: str, metavar: str | None = None) -> Any:
    """A field with its help text, its other names, and how the help page shows its value."""
    return field(default=default, metadata={"help": help, "aliases": aliases, "metavar": metavar})


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The options of one run: one system, trace, rate and seed. Lengths in tokens, times in seconds."""

    system: str = _option(
        DEFAULT_SYSTEM,
        "The system to run (see `pagedbench systems`), or your own KVManager or Scheduler, such as "
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
        None, "Tokens per block of a trace whose block hashes come without a size [512, as in Mooncake's]."
    )
    tokenizer: str | None = _option(None, "Folder, JSON file or hub id, for traces of text [the model's].")
    rate: float = _option(2.0, "Requests per second; inf: all at once.", "--request-rate")
    arrival: str = _option(
        "poisson",
        "poisson, gamma, constant, spike, ramp, closed (each client sends its next request after a reply), "
        "or trace (the trace's own timestamps).",
    )
    time_scale: float = _option(1.0, "Factor for the trace's own times: 0.5 is twice as fast.")
    spike_at: float | None = _option(None, "Second at which the spike begins [half of the duration].")
    spike_duration: float = _option(30.0, "Seconds that the spike lasts.")
    spike_factor: float = _option(3.0, "The rate during the spike, as a multiple of --rate.")
    ramp_to: float | None = _option(None, "The rate at the end of a ramp that begins at --rate.")
    max_concurrency: int | None = _option(None, "Number of clients, with --arrival closed.")
    think_time: float = _option(0.0, "Mean seconds (exponential) from a reply to the next request.")
    turn_times: str = _option(
        "think",
        "When the next turn of a session is sent: think (think or tool time after the reply), recorded "
        "(with the trace's gaps between turns), or api (think, but not before the recorded reply ended).",
    )
    length_scale: float = _option(
        1.0, "Factor for the trace's lengths; prefixes that prompts share stay shared."
    )
    burstiness: float = _option(1.0, "Shape of gamma arrivals: 1 is Poisson, below 1 is burstier.")
    num_requests: int | None = _option(
        None, "Number of requests [with --arrival closed: 10 per client].", "--num-prompts"
    )
    duration: float | None = _option(
        None, "Seconds of arrivals [60, or 4 x --spike-duration if longer; with --arrival trace: all]."
    )
    chat: bool = _option(
        False, "Conversations with all their turns, each sent after the previous reply (ShareGPT)."
    )
    shared_prefix_len: int = _option(0, "Tokens of a shared prefix that is put before each prompt.")
    shared_prefix_groups: int = _option(1, "Number of different shared prefixes; each prompt gets one.")
    warmup: int = _option(
        8, "Requests (8 prompt and 32 output tokens each) before the wall clock starts; not recorded."
    )
    n: int = _option(1, "Parallel samples per prompt.")
    beam_width: int | None = _option(None, "Beams per prompt, all of them returned [no beam search].")
    temperature: float = _option(0.0, "Sampling temperature; 0 is greedy.")
    top_p: float = _option(1.0, "Sample from the likeliest tokens whose probabilities add up to this.")
    top_k: int = _option(0, "Sample from this many of the likeliest tokens; 0: from all.")
    model: str = _option(
        "opt-125m",
        "Built-in shape (`pagedbench doctor --models` lists them), local Hugging Face folder, or hub id.",
    )
    load_format: str = _option("auto", "auto (real weights where available) or dummy (seeded random).")
    device: str = _option(
        "auto",
        "auto, cpu, cuda; or simulated: sim:h100 (`pagedbench doctor --cards` lists more), or sim:FILE, "
        "a file that `pagedbench calibrate` wrote.",
    )
    cost_model: str = _option(
        "auto",
        "Cost model of a simulated card: modern [auto] (kernels of vLLM 0.14, no host time), vllm-2023 "
        "(the paper's engine and its host time), published (linear fits of that engine, for opt-13b and "
        "opt-66b on A100), or roofline (kernels of 2023, 4 ms of host time per iteration).",
    )
    dtype: str = _option(
        "auto", "auto (bfloat16 where the device computes in it, else float32), float32, bfloat16, float16."
    )
    kv_dtype: str = _option(
        "auto", "Keys and values in the pool: auto (as computed), or int8 (one scale per token and head)."
    )
    kernels: str = _option("auto", "auto, native (C++, CPU), triton (GPU) or reference (plain PyTorch).")
    tensor_parallel_size: int | None = _option(
        None, "Ranks that share the model [1; for a simulated opt-66b 4, opt-175b 8].", "-tp"
    )
    kv_slots: int | None = _option(None, "Size of the KV pool in tokens, rounded down to whole blocks.")
    kv_memory: str | None = _option(
        None, "Size of the KV pool in bytes, such as 12GiB, rounded down to whole blocks."
    )
    gpu_memory_utilization: float | None = _option(
        None,
        "Share of a simulated card's memory that may be used; the KV pool gets what the model leaves of it "
        "[0.95; the paper's own pools where they are known].",
    )
    block_size: int = _option(16, "Tokens per block.")
    max_model_len: int | None = _option(
        None, "Most tokens of prompt + output [2048; the model's limit if lower, or if a trace needs it]."
    )
    max_num_seqs: int = _option(256, "Most sequences in one iteration.")
    max_num_batched_tokens: int = _option(2560, "Token budget per iteration.")
    prefill_chunk_size: int | None = _option(
        None,
        "Most tokens of one prompt in an iteration, with --prefill chunked [what the budget leaves].",
    )
    batch_size: int | None = _option(
        None, "FasterTransformer's batch size [as many maximum-length requests as the pool holds]."
    )
    memory: str | None = _option(
        None,
        "Your own KVManager instead of the system's; the run is named after it.",
        metavar="MODULE:CLASS",
    )
    batching: str | None = _option(
        None,
        "Your own Scheduler instead of the system's; the run is named after it.",
        metavar="MODULE:CLASS",
    )
    preemption: str = _option(
        "auto",
        "How a preempted request returns: auto (recompute if it is one sequence, else swap), recompute, "
        "swap (to the host and back), or cheapest.",
    )
    victim: str = _option(
        "latest",
        "Group to preempt: latest (arrival), least-computed, most-freed, cheapest, most-computed, random, "
        "oracle-shortest-left, or your own VictimPolicy, such as module:Class.",
    )
    admission: str = _option(
        "watermark",
        "Requests that may begin: watermark (those that fit), reserve (those sure to finish), "
        "prompt-first-chunk (if that chunk fits), or your own AdmissionPolicy, such as module:Class.",
    )
    swap_space: str | None = _option(
        None, "Bytes of the host pool for swapped requests, such as 12GiB [as large as the KV pool]."
    )
    prefix_caching: bool = _option(
        False, "Automatic prefix caching: reuse KV blocks of shared prompt prefixes; on,off compares both."
    )
    eviction: str = _option(
        "lru",
        "What the prefix cache evicts: lru, fifo, lfu, slru, s3-fifo, gdsf, ttl (or ttl:60s), belady (sees "
        "the future), or your own EvictionPolicy, such as module:Class.",
    )
    host_cache: str = _option("0", "Bytes on the host, such as 64GiB, for evicted blocks of prefixes.")
    disk_cache: str = _option("0", "Bytes of a file for the blocks that --host-cache has no room for.")
    disk_cache_dir: str | None = _option(
        None, "Folder of the --disk-cache file [the system's temporary folder]."
    )
    page_size: str | None = _option(
        None,
        "Page size in which KV memory is committed, such as 64KiB or 2MiB [the operating system's on a "
        "CPU, 2MiB on a simulated card].",
    )
    commit_ahead: int = _option(
        16, "Tokens per sequence for which pages are committed ahead, while the model computes; 0: none."
    )
    kept_pages: str = _option(
        "reuse",
        "What happens to the pages of a finished sequence: reuse (the next sequence takes them over, and "
        "they are given back when memory is short), late (only the latter), none (given back at once).",
    )
    watermark: float = _option(0.01, "Share of the blocks that admission leaves free; 0 in today's vLLM.")
    prefill: str = _option(
        "mixed",
        "mixed: prompts and decodes share iterations; separate: prompts first; chunked: decodes, then "
        "chunks of prompts, within --max-num-batched-tokens.",
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
        refuse_impossible(self)


def is_simulated(device: object) -> bool:
    """Does a device of this name run in virtual time?"""
    return str(device).startswith("sim:")


def plain(value: object) -> str:
    """The value of an option as reports show it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


FIELDS = {item.name: item for item in fields(RunConfig)}
