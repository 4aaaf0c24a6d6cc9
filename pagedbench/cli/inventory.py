"""The tables of `doctor --models` and `doctor --cards`: what can be simulated, and its sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pagedbench.runs.numbers import gibibytes
from pagedbench.show.table import Column, Table
from pagedbench.simulation.cards import CARDS, NOT_VERIFIED
from pagedbench.simulation.config_shapes import BUILT_IN_SHAPES
from pagedbench.simulation.current_models import PUBLISHED

if TYPE_CHECKING:
    from pagedbench.simulation.shapes import ModelShape

CONTEXT = 8192
"""Length of the sequence whose KV bytes are shown, in tokens."""

ELEMENT_SIZE = 2

MODELS_NOTE = (
    f"Keys and values in 16 bits. KV at {CONTEXT:,}: of one sequence of that many tokens; layers with a "
    "window keep only what it still sees. Gemma 3: the text model. Mixtures of experts: the parameters "
    "include all experts; each token passes the stated number of them."
)
CARDS_NOTE = (
    "Peaks are dense, in 16 bits. Kernels: the card whose measured kernels are used, scaled to this card's "
    "peak, bandwidths and multiprocessors. Verified: which simulated times were compared with measured "
    "ones."
)


def models_table() -> Table:
    """The built-in shapes: their sizes, and the bytes of a sequence's keys and values."""
    columns = (
        Column("model", is_key=True, is_text=True),
        Column("billion parameters"),
        Column("layers"),
        Column("KV heads x size"),
        Column("KV per token", "KiB"),
        Column(f"KV at {CONTEXT:,}"),
        Column("longest"),
        Column("windows", is_text=True, priority=1),
        Column("experts", is_text=True, priority=1),
        Column("source", is_text=True, priority=2),
    )
    return Table(columns, [_model_row(shape) for shape in BUILT_IN_SHAPES.values()])


def _model_row(shape: ModelShape) -> tuple[object, ...]:
    published = PUBLISHED.get(shape.name)
    experts = shape.experts
    return (
        shape.name,
        f"{shape.num_parameters / 1e9:.2f}",
        shape.num_layers,
        f"{shape.num_kv_heads} x {shape.head_dim}",
        f"{shape.kv_bytes_per_token(ELEMENT_SIZE) / 2**10:g}",
        gibibytes(shape.kept_kv_bytes(CONTEXT, ELEMENT_SIZE)),
        f"{shape.max_model_len:,}",
        _windows(shape),
        "" if experts is None else f"{experts.per_token} of {experts.number}",
        _paper(shape) if published is None else f"{published.source} (config.json)",
    )


def _windows(shape: ModelShape) -> str:
    """The number of layers with a window, and its tokens, for every kind of window."""
    parts = [
        f"{shape.num_layers if group.layers is None else len(group.layers)} layers: {group.window:,}"
        for group in shape.layer_groups
        if group.window is not None
    ]
    return ", ".join(parts)


def _paper(shape: ModelShape) -> str:
    if shape.family == "opt":
        return "Zhang et al. 2022, Table 1"
    is_first = shape.name in ("llama-7b", "llama-13b")
    return "Touvron et al. 2023, Table 2" if is_first else "meta-llama (config.json)"


def cards_table() -> Table:
    """The simulated cards: the figures that their times are made of, and how far they were verified."""
    columns = (
        Column("card", is_key=True, is_text=True),
        Column("memory"),
        Column("peak", "TFLOP/s"),
        Column("bandwidth", "GB/s"),
        Column("multi- processors"),
        Column("kernels", is_text=True),
        Column("verified", is_text=True, wraps=True, priority=1),
        Column("source", is_text=True, wraps=True, priority=2),
    )
    rows = [
        (
            card.name,
            gibibytes(card.memory),
            f"{card.peak / 1e12:,.0f}",
            f"{card.bandwidth / 1e9:,.0f}",
            card.num_multiprocessors,
            card.kernels,
            card.verified or NOT_VERIFIED,
            card.source,
        )
        for card in CARDS.values()
    ]
    return Table(columns, rows)
