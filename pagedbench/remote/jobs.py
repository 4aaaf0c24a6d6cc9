"""Jobs against servers: the same requests as a run of our engine with the same options."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from pagedbench.config import ConfigError
from pagedbench.loadgen.protocols.api import Api
from pagedbench.memory.manager import KVManager
from pagedbench.metrics.slo import parse_slo
from pagedbench.plan import Plan
from pagedbench.pool import DEFAULT_MAX_MODEL_LEN
from pagedbench.remote.calls import check_sendable
from pagedbench.remote.prompts import shape_of_server, tokenizer_folder
from pagedbench.runs.jobs import (
    Job,
    check_place,
    check_sizes,
    check_vocabulary,
    datasets_of,
    job_names,
    source_of,
    traces_of,
)
from pagedbench.scheduling.scheduler import Scheduler
from pagedbench.systems import System
from pagedbench.workload import dataset, tokenizer
from pagedbench.workload.dropped import longest_len
from pagedbench.workload.length_scale import scaled
from pagedbench.workload.sessions import with_histories

if TYPE_CHECKING:
    from pagedbench.config import RunConfig
    from pagedbench.loadgen.server import Server
    from pagedbench.runs.options import CommandOptions

UNKNOWN = "the server's own"
HIDDEN_BOUND = "queue_time"


def check_workload(configs: list[RunConfig], options: CommandOptions) -> None:
    """Refuse impossible workloads before any server is asked.

    Raises:
        InputError: a trace or tokenizer does not exist, an option is impossible, or nothing can be saved.
    """
    if not options.dry_run:
        check_place(options)
    for config in configs:
        dataset.check_name(config.trace)
        if config.tokenizer is not None:
            tokenizer.check_name(config.tokenizer)
        check_sizes(config)
        check_bounds(config)
        if options.require_slo is not None and config.slo is None:
            raise ConfigError("--require-slo needs --slo, the bounds that requests must meet")


def check_bounds(config: RunConfig) -> None:
    """Refuse bounds on times that a client cannot see.

    Raises:
        ConfigError: `--slo` bounds the time in a server's queue.
    """
    if config.slo is not None and HIDDEN_BOUND in dict(parse_slo(config.slo).bounds):
        raise ConfigError(f"--slo bounds {HIDDEN_BOUND}, which no client of a server can see: bound ttft")


def check_prefix_caching(configs: list[RunConfig], servers: list[Server]) -> None:
    """Refuse --prefix-caching where it has no effect.

    Raises:
        ConfigError: a server does not let requests decide it.
    """
    for server in servers:
        if any(config.prefix_caching for config in configs) and server.api is not Api.LLAMACPP:
            raise ConfigError(
                f"--prefix-caching is not sent to a server with the API {server.api}: start it with or "
                "without its cache"
            )


def prepare_for_servers(
    configs: list[RunConfig], servers: list[Server], options: CommandOptions, *, is_model_given: bool
) -> list[Job]:
    """A job for every configuration on every server, with its trace.

    Args:
        is_model_given: the user named the model of the configurations; otherwise each server names its own.

    Raises:
        InputError: a model, trace or tokenizer is not available, or replay cannot send such a trace.
    """
    check_prefix_caching(configs, servers)
    pairs = [(config, server) for config in configs for server in servers]
    plans = [server_plan(config, server, is_model_given=is_model_given) for config, server in pairs]
    datasets = datasets_of(plans, is_tokenizer_given=False)
    for index, (config, _) in enumerate(pairs):
        rows = with_histories(scaled(datasets[source_of(plans[index])].rows, config.length_scale))
        plans[index] = _with_length(plans[index], config, longest_len(rows))
    traces = traces_of(plans, datasets)
    for plan, trace in zip(plans, traces, strict=True):
        check_sendable(trace)
        check_vocabulary(plan, trace)
    names, output = job_names([config for config, _ in pairs], plans, traces), options.output
    return [
        Job(plan, trace, name, output and (output / name if len(names) > 1 else output))
        for plan, trace, name in zip(plans, traces, names, strict=True)
    ]


def server_plan(config: RunConfig, server: Server, *, is_model_given: bool) -> Plan:
    """The plan of a run against a server. Of its memory and device, only what it reports is known.

    Raises:
        ConfigError: the dimensions of its model are not known, --max-model-len is above its limit, or it
            cannot sample in this way.
    """
    if config.top_k and server.api is Api.OPENAI:
        raise ConfigError("OpenAI's API has no --top-k: leave it out, or give --api vllm if it has one")
    asked = config.model if is_model_given else None
    shape = shape_of_server(server, asked)
    most = min(shape.max_model_len, server.max_model_len or shape.max_model_len)
    if config.max_model_len is not None and config.max_model_len > most:
        raise ConfigError(f"--max-model-len {config.max_model_len} is above the server's {most} tokens")
    length = config.max_model_len or min(DEFAULT_MAX_MODEL_LEN, most)
    return Plan(
        config=replace(config, system=server.label, model=asked or server.model, max_model_len=length),
        system=System(
            server.label,
            KVManager,  # type: ignore[type-abstract]  # has no ability, and is never built
            Scheduler,  # type: ignore[type-abstract]
            UNKNOWN,
            UNKNOWN,
            f"{server}.",
        ),
        shape=shape,
        kv_slots=server.kv_slots or 0,
        kv_bytes=0,
        device_name=str(server),
        weights=UNKNOWN,
        kernels=UNKNOWN,
        tokenizer=config.tokenizer or tokenizer_folder(server, asked),
        server=server,
    )


def _with_length(plan: Plan, asked: RunConfig, longest: int) -> Plan:
    """As for our engine: if the default limit would drop the longest row, the limit is the model's."""
    assert plan.server is not None, "a plan for our engine"
    most = min(plan.shape.max_model_len, plan.server.max_model_len or math.inf)
    if asked.max_model_len is not None or min(longest + 1, most) <= DEFAULT_MAX_MODEL_LEN:
        return plan
    return replace(plan, config=replace(plan.config, max_model_len=int(most)))
