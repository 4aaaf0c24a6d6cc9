"""The looks of systems and of parts of the KV pool in every chart: colours, markers, dashes, hatches.

The colours are Okabe and Ito's, which people with any kind of colour vision can distinguish.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Look:
    """One series: colour, marker, hatch and dash of matplotlib; colour and characters of a terminal.

    Attributes:
        dash: lengths of strokes and gaps in points; empty: a solid line.
    """

    color: str
    marker: str
    character: str
    ascii_character: str
    terminal_color: str
    hatch: str = ""
    dash: tuple[float, ...] = ()


PALETTE = (
    Look("#0072B2", "o", "●", "o", "blue"),
    Look("#009E73", "^", "▲", "^", "green"),
    Look("#E69F00", "s", "■", "#", "yellow"),
    Look("#D55E00", "v", "▼", "v", "red"),
    Look("#CC79A7", "D", "◆", "x", "magenta"),
    Look("#56B4E9", "P", "✚", "+", "cyan"),
    Look("#000000", "*", "★", "*", "bright_black"),
    Look("#555555", "X", "✖", "%", "white"),
)
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1, 1.5), (6, 2, 1, 2), (9, 3), (3, 1, 1, 1, 1, 1))

SYSTEMS = {
    "paged": "Paged (vLLM)",
    "orca-oracle": "Orca (Oracle)",
    "orca-pow2": "Orca (Pow2)",
    "orca-max": "Orca (Max)",
    "fastertransformer": "FasterTransformer",
    "vattention": "vAttention",
}
"""Name -> title: in the order of the paper's legends, best first, then others. Their looks are the first of
the palette."""

OTHER = PALETTE[-1]
"""The look of systems that are not in `SYSTEMS`."""

PARTS = {
    "token_states": ("Token states", Look("#0072B2", "s", "█", "#", "blue")),
    "reserved": ("Reserved", Look("#56B4E9", "s", "▓", "=", "cyan", "//")),
    "internal": ("Internal fragmentation", Look("#E69F00", "s", "▒", "+", "yellow", "\\\\")),
    "external": ("External fragmentation", Look("#D55E00", "s", "░", "x", "red", "xx")),
    "free": ("Free", Look("#EEEEEE", "s", "·", ".", "white")),
}
"""Part of the KV pool -> title and look; Fig. 2 of the paper shows the last two as one."""

_LOOKS = {
    **dict(zip(SYSTEMS, PALETTE, strict=False)),
    **{name: look for name, (_, look) in PARTS.items()},
    "external and others": PARTS["external"][1],
}


def look_of(name: str) -> Look | None:
    """The fixed look of a system or of a part of the pool; None: it has none."""
    return _LOOKS.get(name) or _LOOKS.get(name.replace(" ", "_"))


def look_at(index: int) -> Look:
    """The look of a series without a fixed one, by its position in the legend."""
    return replace(PALETTE[index % len(PALETTE)], dash=DASHES[index // len(PALETTE) % len(DASHES)])


def variant(look: Look, index: int) -> Look:
    """The same colour with another marker and dash, for several lines of one system."""
    markers = [known.marker for known in PALETTE]
    shape = PALETTE[(markers.index(look.marker) + index) % len(PALETTE)]
    return replace(shape, color=look.color, terminal_color=look.terminal_color,
                   dash=DASHES[index % len(DASHES)])  # fmt: skip


def title_of(name: str) -> str:
    """The title of a system in a legend; any other name stays unchanged."""
    return SYSTEMS.get(name, name)


def narrow(label: str) -> str:
    """A label that fits below a bar: the longest names take two lines."""
    return label.replace("fastertransformer", "faster-\ntransformer")


def order_of(system: str) -> int:
    """The position of a system in legends and tables."""
    return list(SYSTEMS).index(system) if system in SYSTEMS else len(SYSTEMS)
