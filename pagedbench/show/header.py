"""The header of a run: what will really run; and the resolved plan of --dry-run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pagedbench.loadgen.protocols.table import PROTOCOLS
from pagedbench.memory.layer_group import has_windows, num_padded_layers
from pagedbench.runs.numbers import counted, gibibytes, number, span
from pagedbench.runs.options import OF_WORKLOAD
from pagedbench.runs.result import slo_of
from pagedbench.simulation.disk import NVME
from pagedbench.simulation.executor import BEST_PARENT_PROBABILITY
from pagedbench.simulation.page_costs import page_cost_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Items

    from pagedbench.plan import Plan
    from pagedbench.request import SamplingParams
    from pagedbench.workload.dropped import Dropped
    from pagedbench.workload.trace import Trace

GREEDY = "greedy"

Row = tuple[str, str]
"""A label and its text."""


POLICIES = ("prefill", "preemption", "victim", "admission", "eviction")
"""Options for the policies of a system, which the header shows if they are not the defaults."""


def header_rows(plans: Items[Plan], traces: Items[Trace]) -> list[Row]:
    """The facts about runs, each once; a label is in the first of its rows."""
    distinct = {id(trace): trace for trace in traces}.values()
    servers, plans = [plan for plan in plans if plan.server], [plan for plan in plans if not plan.server]
    backends = {
        (plan.config.model, plan.config.device, plan.device_name, plan.config.kv_dtype): plan
        for plan in plans
    }.values()
    return _merged(
        [
            *(("Server", text) for plan in servers for text in _server(plan)),
            *(_system_rows(plans) if plans else ()),
            *(("Model", _model(plan)) for plan in plans),
            *(("Counted", plan.shape.note) for plan in plans if plan.shape.note),
            *(("Device", f"{plan.device_name}; kernels {plan.kernels}") for plan in plans),
            *(("Cost model", plan.cost_model) for plan in backends if plan.cost_model),
            *(("Attention", plan.attention_cost) for plan in plans if plan.attention_cost),
            *(("KV pool", _pool(plan)) for plan in plans),
            *(("Pages", text) for plan in plans if (text := _pages(plan))),
            *(("Tiers", _tiers(plan)) for plan in plans if any(plan.tier_slots)),
            *(("Policies", text) for plan in plans if (text := _policies(plan))),
            *(row for trace in distinct for row in trace_rows(trace)),
            *_decoding_rows(plans, list(distinct)),
            *(("SLO", text) for plan in (*servers, *plans) for text in _slo(plan)),
        ]
    )


def plan_rows(plan: Plan, trace: Trace) -> list[Row]:
    """The memory plan, the size of the workload, and every option that has a value."""
    from pagedbench.config import FIELDS, flag, plain

    names = FIELDS if plan.server is None else OF_WORKLOAD
    values = {name: getattr(plan.config, name) for name in names}
    options = " ".join(
        flag(name) if value is True else f"{flag(name)} {plain(value)}"
        for name, value in values.items()
        if value is not None and value is not False
    )
    memory = [
        (f"  {label}", f"{gibibytes(size)}, {size / plan.memory_plan[0][1]:.1%} ({size:,} bytes)")
        for label, size in plan.memory_plan
    ]
    requests = counted(len(trace.requests), "request")
    return [
        *([("Memory plan", "all ranks together"), *memory] if memory else []),
        ("Requests", f"{requests}, the last after {span(trace.last_arrival)}"),
        ("Options", options),
    ]


def _merged(rows: Iterable[Row]) -> list[Row]:
    """The rows with those of one label together, each text once, the label on the first of them."""
    texts: dict[str, dict[str, None]] = {}
    for label, text in rows:
        texts.setdefault(label, {})[text] = None
    return [
        ("" if index else label, text) for label, own in texts.items() for index, text in enumerate(own)
    ]


def _system_rows(plans: Items[Plan]) -> list[Row]:
    """One system in a sentence, several by name; a user's own classes always in full."""
    systems = {plan.system.name: plan.system for plan in plans}
    names = [("Systems", ", ".join(systems))] if len(systems) > 1 else []
    return names + [
        ("Own" if names else "System", f"{system.name}: {system.summary}")
        for system in systems.values()
        if not names or not system.is_built_in
    ]


def _server(plan: Plan) -> list[str]:
    """A server, and how its requests are sent."""
    server = plan.server
    assert server is not None, "our engine serves this plan"
    protocol = PROTOCOLS[server.api]
    kind = "token ids" if protocol.takes_token_ids else "text, whose tokens the server counts itself"
    length = "" if protocol.forces_lengths else "; the model decides when replies end: lengths vary"
    pool = "" if server.kv_slots is None else f"; KV pool {server.kv_slots:,} tokens"
    return [f"{server.label}: {server}", f"model {server.model}{pool}; prompts as {kind}{length}"]


def _policies(plan: Plan) -> str:
    """The policies (`--victim` and so on) that are not the defaults."""
    from pagedbench.config import FIELDS, flag

    chosen = {name: getattr(plan.config, name) for name in POLICIES}
    return ", ".join(
        f"{flag(name)} {value}" for name, value in chosen.items() if value != FIELDS[name].default
    )


def _slo(plan: Plan) -> list[str]:
    """The bounds, and the source of those of a preset."""
    slo = slo_of(plan)
    return [] if slo is None else [str(slo), *slo.sources]


def _model(plan: Plan) -> str:
    return f"{plan.config.model}, weights {plan.weights}, {plan.config.dtype}"


def _pool(plan: Plan) -> str:
    kind = "" if plan.config.kv_dtype == "auto" else f"; {plan.config.kv_dtype}, a scale per token and head"
    kind += "" if plan.ranks is None else f"; {gibibytes(plan.kv_bytes // plan.ranks.num_ranks)} per rank"
    whole = (
        f"{gibibytes(plan.kv_bytes)}, {plan.num_blocks:,} blocks of {plan.config.block_size}, "
        f"{plan.kv_slots:,} tokens{kind}"
    )
    return f"{whole} in all layers; {_groups(plan)}" if has_windows(plan.layer_groups) else whole


def _groups(plan: Plan) -> str:
    """How the pool is divided among layers with windows."""
    groups, num_layers = plan.layer_groups, plan.shape.num_layers
    size = max(len(group.layers or range(num_layers)) for group in groups)
    padded = num_padded_layers(groups) / (size * len(groups))
    num_windowed = sum(group.window is not None for group in groups)
    windows = sorted({group.window for group in groups if group.window is not None})
    num_blocks = plan.in_slots(plan.kv_slots) // plan.config.block_size
    kept = " or ".join(f"{window:,}" for window in windows)
    padding = f"; {padded:.1%} are padding" if padded else ""
    return (
        f"{num_blocks:,} blocks, each for one of {len(groups)} groups of {size} layers; "
        f"{counted(num_windowed, 'group')} with a window of {kept} tokens{padding}"
    )


def _pages(plan: Plan) -> str:
    """The pages in which memory is committed, and the source of their costs in a simulation."""
    spec, config = plan.pages, plan.config
    if spec is None:
        return ""
    number = plan.kv_slots * spec.row_bytes // spec.page_bytes
    text = (
        f"{number:,} of {config.page_size} in each of {2 * plan.shape.num_layers} tensors, "
        f"{counted(config.commit_ahead, 'token')} committed ahead, kept pages: {config.kept_pages}"
    )
    return f"{text}; {page_cost_of(config.device, spec.page_bytes).source}" if plan.step_times else text


def _tiers(plan: Plan) -> str:
    """The sizes of the tiers below the device, and the source of a simulated disk's times."""
    slot = plan.kv_bytes // plan.kv_slots
    parts = [
        f"{name} {gibibytes(slot * slots)}" for name, slots in plan.tier_slots._asdict().items() if slots
    ]
    source = f"; {NVME.source}" if plan.config.is_simulated and plan.tier_slots.disk else ""
    return f"evicted blocks of prefixes: {', '.join(parts)}{source}"


def trace_rows(trace: Trace) -> list[Row]:
    """The requests: their number, lengths, source and arrivals."""
    means = trace.paper_means
    paper_in, paper_out = (f" (paper {means.prompt})", f" (paper {means.output})") if means else ("", "")
    rows = [
        (
            "Trace",
            f"{trace.name}, {counted(len(trace.requests), 'request')}: mean prompt "
            f"{trace.mean_prompt_len:.2f}{paper_in}, output {trace.mean_output_len:.2f}{paper_out} tokens",
        ),
        ("Lengths", f"synthesized ({trace.source})" if trace.synthetic else trace.source),
    ]
    if trace.dropped is not None:
        rows.append(("Dropped", _dropped(trace.dropped)))
    if trace.num_unreadable:
        rows.append(
            ("Unreadable", f"{counted(trace.num_unreadable, 'record')} that lack a prompt or a reply")
        )
    if trace.prefixes:
        texts = f"{counted(len(trace.prefixes), 'text')} of {counted(trace.prefixes[0].length, 'token')}"
        rows.append(("Prefixes", f"every prompt begins with one of {texts}"))
    noun = "requests" if trace.num_sessions is None else "sessions"
    if trace.num_sessions is not None:
        sessions = counted(trace.num_sessions, "session")
        rows.append(("Sessions", f"{sessions}; a turn waits for the replies in its prompt"))
    realised = trace.realised_rate
    rate = "" if math.isinf(realised) else f"; realised {number(float(realised))} {noun}/s"
    return [*rows, ("Arrivals", f"{trace.arrival}{rate}")]


def _dropped(dropped: Dropped) -> str:
    """How many rows were dropped, why, and how that changes the mean prompt length."""
    reasons = {
        f"longer than --max-model-len {dropped.max_model_len}": dropped.num_long,
        "a length below 1": dropped.num_empty,
    }
    found = [(reason, count) for reason, count in reasons.items() if count]
    why = found[0][0] if len(found) == 1 else ", ".join(f"{count:,} {reason}" for reason, count in found)
    before, after = number(dropped.mean_prompt_before), number(dropped.mean_prompt_after)
    verb = "falls" if dropped.mean_prompt_after < dropped.mean_prompt_before else "rises"
    mean = f"stays at {after}" if before == after else f"{verb} from {before} to {after}"
    share = f"{100 * dropped.share:.3g} %"
    everything = counted(dropped.num_rows, "request")
    return f"{dropped.number:,} of {everything}, {share}: {why}; the mean prompt {mean}"


def _decoding_rows(plans: Items[Plan], traces: Items[Trace]) -> list[Row]:
    """How replies are decoded, unless greedily, and how beams are simulated."""
    kinds = dict.fromkeys(_decoding(trace.sampling) for trace in traces)
    rows = [] if list(kinds) == [GREEDY] else [("Decoding", kind) for kind in kinds]
    has_beams = any((item.sampling.beam_width or 1) > 1 for trace in traces for item in trace.requests)
    if has_beams and any(plan.config.is_simulated for plan in plans):
        law = (
            "simulated: in each step every other beam continues the best one with probability "
            f"{BEST_PARENT_PROBABILITY:g}, else itself"
        )
        rows.append(("Beams", law))
    if any(plan.config.prefix_caching for plan in plans):
        names = dict.fromkeys(plan.system.name for plan in plans if plan.config.prefix_caching)
        rows.append(("Prefix cache", f"on, for {', '.join(names)}"))
    return rows


def _decoding(sampling: SamplingParams | None) -> str:
    """The decoding in words; `sampling` None: requests differ."""
    if sampling is None:
        return "as the trace says of each request"
    if sampling.beam_width is not None:
        return f"beam search, {counted(sampling.beam_width, 'beam')}"
    if sampling.temperature == 0:
        return GREEDY
    kept = f", top-p {sampling.top_p:g}" if sampling.top_p < 1 else ""
    kept += f", top-k {sampling.top_k}" if sampling.top_k else ""
    return f"{counted(sampling.n, 'sample')} of each prompt, temperature {sampling.temperature:g}{kept}"
