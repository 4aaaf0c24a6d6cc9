"""How systems and parts of the pool look in every plot: fixed colours, markers and hatches.

The colours are Okabe and Ito's, which people with any kind of colour vision tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SystemStyle:
    """One system: a colour and a marker of matplotlib, and a character for terminals."""

    name: str
    title: str
    color: str
    marker: str
    character: str
    ascii_character: str
    terminal_style: str


SYSTEM_STYLES = {
    style.name: style
    for style in (
        SystemStyle("paged", "Paged (vLLM)", "#0072B2", "o", "●", "o", "blue"),
        SystemStyle("orca-oracle", "Orca (Oracle)", "#009E73", "^", "▲", "^", "green"),
        SystemStyle("orca-pow2", "Orca (Pow2)", "#E69F00", "s", "■", "#", "yellow"),
        SystemStyle("orca-max", "Orca (Max)", "#D55E00", "v", "▼", "v", "red"),
        SystemStyle("fastertransformer", "FasterTransformer", "#CC79A7", "D", "◆", "x", "magenta"),
    )
}
"""In the order of the paper's legends, best first."""

OTHER = SystemStyle("other", "other", "#555555", "X", "✚", "+", "white")
"""Of systems that have no style of their own."""


def style_of(system: str) -> SystemStyle:
    """The style of a system, or one that stands for any other."""
    return SYSTEM_STYLES.get(system, OTHER)


def narrow(label: str) -> str:
    """A label that fits below a bar: the longest name takes two lines."""
    return label.replace("fastertransformer", "faster-\ntransformer")


def order_of(system: str) -> int:
    """Where a system stands in a legend."""
    return list(SYSTEM_STYLES).index(system) if system in SYSTEM_STYLES else len(SYSTEM_STYLES)


@dataclass(frozen=True, slots=True)
class PartStyle:
    """One part of the KV pool: what it is called in a plot, its colour, and its hatch for printing."""

    part: str
    title: str
    color: str
    hatch: str


PART_STYLES = (
    PartStyle("token_states", "Token states", "#0072B2", ""),
    PartStyle("reserved", "Reserved", "#56B4E9", "//"),
    PartStyle("internal", "Internal fragmentation", "#E69F00", "\\\\"),
    PartStyle("external", "External fragmentation", "#D55E00", "xx"),
    PartStyle("free", "Free", "#EEEEEE", ""),
)
"""As in the paper's Fig. 2, which draws external fragmentation and free space as one."""
