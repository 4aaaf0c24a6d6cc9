"""The options that `plan` has beside those of a run, as the help page shows them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

PANEL = "Fleet"


def _option(help: str, **rules: Any) -> Any:
    return typer.Option(help=help, rich_help_panel=PANEL, **rules)


Replicas = Annotated[
    str | None,
    _option("How many: 8 or 4,8 simulates these; 2:16 bounds the search, or --autoscale \\[1:256]."),
]

Router = Annotated[
    str,
    _option(
        "round-robin, random, least-outstanding, join-shortest-queue (in tokens), session-affinity, "
        "kv-use, prefix, prefix-approximate, llm-d, dynamo, preble, or a Router of your own, such as "
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
    typer.Option(help="Simulations of each fleet, from --seed on.", min=1, max=100),
]

Disaggregate = Annotated[
    str | None,
    _option("Prefill and decode apart: replicas of each in a unit, such as 1:1; --replicas are units."),
]

TransferBandwidth = Annotated[str, _option("Bytes per second of the link of each prefill replica.")]

TransferLatency = Annotated[str, _option("Of that link, until the first byte arrives.")]

Autoscale = Annotated[
    str | None,
    _option(
        "Replicas start and leave by queue (requests waiting in each \\[queue:1]) or kv (share of the "
        "pool in use \\[kv:0.7]), within --replicas LOW:HIGH."
    ),
]

AutoscaleInterval = Annotated[str, _option("Time between two decisions of --autoscale.")]

ColdStart = Annotated[str, _option("Time until a new replica takes requests.")]

Price = Annotated[str | None, _option("What an hour of a card costs, as in sim:h100=2.5; comma-separated.")]

Jobs = Annotated[int | None, _option("Processes \\[the cores].")]
