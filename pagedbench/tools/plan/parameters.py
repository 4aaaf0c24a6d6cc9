"""The options of `plan` other than those of a run, as in its help page."""

from __future__ import annotations

from typing import Annotated, Any

import typer

PANEL = "Fleet"


def _option(help: str, **rules: Any) -> Any:
    return typer.Option(help=help, rich_help_panel=PANEL, **rules)


Replicas = Annotated[
    str | None,
    _option("Fleet sizes: 8 or 4,8 to simulate; 2:16 as bounds of the search or --autoscale \\[1:256]."),
]

Router = Annotated[
    str,
    _option(
        "round-robin, random, least-outstanding, join-shortest-queue (in tokens), session-affinity, "
        "kv-use, prefix, prefix-approximate, llm-d, dynamo, preble, or your own Router, such as "
        "module:Class; comma-separated."
    ),
]

Staleness = Annotated[
    str,
    _option("How often replicas report their load and caches, such as 100ms; comma-separated \\[always]."),
]

Attainment = Annotated[
    float | None,
    _option("Share of requests (0-1) that must meet --slo \\[without: the means must]."),
]

Seeds = Annotated[
    int,
    typer.Option(help="Simulations per fleet; their seeds begin at --seed.", min=1, max=100),
]

Disaggregate = Annotated[
    str | None,
    _option("Separate prefill and decode replicas, e.g. 1:1 of each per unit; --replicas counts units."),
]

TransferBandwidth = Annotated[str, _option("Bytes per second of each prefill replica's link.")]

TransferLatency = Annotated[str, _option("Time until the first byte arrives over that link.")]

Autoscale = Annotated[
    str | None,
    _option(
        "Start and stop replicas by queue (requests waiting in each \\[queue:1]) or kv (share of the pool "
        "in use \\[kv:0.7]), within --replicas LOW:HIGH."
    ),
]

AutoscaleInterval = Annotated[str, _option("Time between two decisions of --autoscale.")]

ColdStart = Annotated[str, _option("Time until a new replica accepts requests.")]

Price = Annotated[str | None, _option("Price of a card per hour, as in sim:h100=2.5; comma-separated.")]

Jobs = Annotated[int | None, _option("Processes \\[one per core].")]
